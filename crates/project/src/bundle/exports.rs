//! What each file of `functions/` exports: one run of esbuild for all that changed since
//! the last build.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::esbuild::Run;
use super::output::Metafile;
use super::{BundleError, explain, joined};
use crate::assets::FileStamp;
use crate::node_compat::Mode;

/// Exports of files, remembered by modification time and size.
#[derive(Debug, Default)]
pub(crate) struct ExportCache {
    known: HashMap<PathBuf, (FileStamp, Vec<String>)>,
}

/// Files named in one command, so that its line stays far below the system's bound (2 MiB).
const FILES_A_RUN: usize = 200;

impl ExportCache {
    /// The exports of `files`, in their order. `scratch` takes what esbuild writes.
    pub(crate) fn exports(
        &mut self,
        esbuild: &Path,
        scratch: &Path,
        root: &Path,
        files: &[PathBuf],
    ) -> Result<Vec<Vec<String>>, BundleError> {
        let mut stamps = Vec::with_capacity(files.len());
        for file in files {
            let stamp =
                FileStamp::of(file).map_err(|error| BundleError::Io(file.clone(), error))?;
            stamps.push(stamp);
        }
        let stale: Vec<usize> = (0..files.len())
            .filter(|&index| {
                let known = self.known.get(&files[index]);
                known.is_none_or(|(stamp, _)| *stamp != stamps[index])
            })
            .collect();
        for chunk in stale.chunks(FILES_A_RUN) {
            let chunk_files: Vec<&Path> = chunk.iter().map(|&i| files[i].as_path()).collect();
            let found = run(esbuild, scratch, root, &chunk_files)?;
            for (&index, exports) in chunk.iter().zip(found) {
                self.known
                    .insert(files[index].clone(), (stamps[index], exports));
            }
        }
        if self.known.len() > files.len() {
            self.known.retain(|file, _| files.contains(file));
        }
        Ok(files
            .iter()
            .map(|file| self.known[file].1.clone())
            .collect())
    }
}

/// Each file is compiled alone, as upstream does: `export * from` counts for nothing.
fn run(
    esbuild: &Path,
    scratch: &Path,
    root: &Path,
    files: &[&Path],
) -> Result<Vec<Vec<String>>, BundleError> {
    let out = scratch.join("exports");
    let metafile = scratch.join("exports.json");
    let mut args = vec![
        "--loader:.js=jsx".into(),
        "--loader:.mjs=jsx".into(),
        "--target=es2024".into(),
        "--supported:import-source=true".into(),
        joined("--outdir=", &out),
        joined("--metafile=", &metafile),
    ];
    for (index, file) in files.iter().enumerate() {
        // The name before `=` keeps `a.js` and `a.ts` apart.
        args.push(joined(&format!("{index}="), file));
    }
    let run = Run {
        esbuild,
        working_dir: root,
        args,
        stdin: None,
    };
    run.run().map_err(|error| explain(error, Mode::V2))?;
    let meta = Metafile::read(&metafile)?;
    let mut exports = vec![Vec::new(); files.len()];
    for (name, found) in meta.exports_by_output_stem() {
        if let Some(slot) = name
            .parse::<usize>()
            .ok()
            .and_then(|index| exports.get_mut(index))
        {
            *slot = found;
        }
    }
    Ok(exports)
}
