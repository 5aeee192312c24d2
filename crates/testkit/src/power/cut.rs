//! What a disk may hold after a cut.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::{Event, Node, Recording, Sync};
use crate::Random;

/// What a disk keeps or loses in one piece.
const SECTOR_BYTES: u64 = 512;

/// Of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survivors {
    /// Nothing.
    None,
    /// Every name, rename and removal, and no byte.
    Names,
    /// A random part.
    Some,
    /// Everything, as after a kill.
    All,
}

/// A power cut.
pub struct Cut<'a> {
    recording: &'a Recording,
    steps: usize,
    survivors: Survivors,
    /// Syncs that count as if they had not been asked for.
    ignored: &'a dyn Fn(&Sync) -> bool,
}

impl Recording {
    /// The power goes after so many steps.
    pub fn cut(&self, steps: usize, survivors: Survivors) -> Cut<'_> {
        Cut {
            recording: self,
            steps,
            survivors,
            ignored: &|_| false,
        }
    }
}

/// How likely things survive in one cut: all cuts alike would never meet the extremes.
struct Odds {
    survivors: Survivors,
    /// Of 8.
    data: u64,
    names: u64,
    renames: u64,
}

impl Odds {
    fn choose(survivors: Survivors, random: &mut Random) -> Self {
        let mut of = |choices: &[u64]| choices[random.below_len(choices.len())];
        Self {
            survivors,
            data: of(&[0, 1, 4, 7, 8]),
            names: of(&[0, 0, 0, 4]),
            renames: of(&[0, 4, 8]),
        }
    }

    fn keeps_bytes(&self, random: &mut Random) -> bool {
        match self.survivors {
            Survivors::None | Survivors::Names => false,
            Survivors::All => true,
            Survivors::Some => random.below(8) < self.data,
        }
    }

    fn keeps_name(&self, of_8: u64, random: &mut Random) -> bool {
        match self.survivors {
            Survivors::None => false,
            Survivors::All | Survivors::Names => true,
            Survivors::Some => random.below(8) < of_8,
        }
    }
}

impl<'a> Cut<'a> {
    /// As if the program had not asked for these syncs.
    pub fn without(self, ignored: &'a dyn Fn(&Sync) -> bool) -> Self {
        Self { ignored, ..self }
    }

    /// Writes what is left into a folder.
    ///
    /// # Panics
    /// When that cannot be written.
    pub fn write(&self, random: &mut Random, into: &Path) {
        let synced = self.synced();
        let odds = Odds::choose(self.survivors, random);
        let names = self.names(&synced, &odds, random);
        self.write_folder(0, into, &names, &synced, &odds, random);
    }

    /// The entries of each folder, with nothing lost.
    pub(super) fn all_names(&self) -> HashMap<Node, BTreeMap<OsString, Node>> {
        let random = &mut Random::new(0);
        self.names(
            &HashMap::new(),
            &Odds::choose(Survivors::All, random),
            random,
        )
    }

    fn events(&self) -> impl Iterator<Item = (usize, &'a Event)> + use<'a> {
        self.recording.events[..self.steps].iter().enumerate()
    }

    /// For each node, the step of its last sync.
    fn synced(&self) -> HashMap<Node, usize> {
        let mut synced = HashMap::new();
        for (step, event) in self.events() {
            match event {
                Event::Synced { node, sync } if !(self.ignored)(sync) => {
                    synced.insert(*node, step);
                }
                Event::SyncedAll { sync } if !(self.ignored)(sync) => {
                    synced.extend((0..self.recording.folders.len()).map(|node| (node, step)));
                }
                _ => {}
            }
        }
        synced
    }

    /// The entries of each folder.
    fn names(
        &self,
        synced: &HashMap<Node, usize>,
        odds: &Odds,
        random: &mut Random,
    ) -> HashMap<Node, BTreeMap<OsString, Node>> {
        let mut names: HashMap<Node, BTreeMap<OsString, Node>> = HashMap::new();
        for (step, event) in self.events() {
            let mut happens = |folder: &Node, of_8| {
                synced.get(folder).is_some_and(|synced| *synced > step)
                    || odds.keeps_name(of_8, random)
            };
            match event {
                Event::Named { folder, name, node } if happens(folder, odds.names) => {
                    names
                        .entry(*folder)
                        .or_default()
                        .insert(name.clone(), *node);
                }
                Event::Removed { folder, name } if happens(folder, odds.renames) => {
                    names.entry(*folder).or_default().remove(name);
                }
                Event::Renamed { from, to, node } if happens(&to.0, odds.renames) => {
                    let old = names.entry(from.0).or_default();
                    if old.get(&from.1) == Some(node) {
                        old.remove(&from.1);
                    }
                    names.entry(to.0).or_default().insert(to.1.clone(), *node);
                }
                _ => {}
            }
        }
        names
    }

    fn write_folder(
        &self,
        folder: Node,
        into: &Path,
        names: &HashMap<Node, BTreeMap<OsString, Node>>,
        synced: &HashMap<Node, usize>,
        odds: &Odds,
        random: &mut Random,
    ) {
        for (name, node) in names.get(&folder).into_iter().flatten() {
            let path = into.join(name);
            if self.recording.folders[*node] {
                fs::create_dir(&path).expect("a folder");
                self.write_folder(*node, &path, names, synced, odds, random);
            } else {
                let last = synced.get(node).copied();
                fs::write(&path, self.content(*node, last, odds, random)).expect("a file");
            }
        }
    }

    fn content(
        &self,
        of: Node,
        synced: Option<usize>,
        odds: &Odds,
        random: &mut Random,
    ) -> Vec<u8> {
        let mut content = Vec::new();
        for (step, event) in self.events() {
            let is_synced = synced.is_some_and(|synced| synced > step);
            match event {
                Event::Written {
                    node,
                    offset,
                    bytes,
                } if *node == of => {
                    if is_synced || self.survivors == Survivors::All {
                        put(&mut content, *offset, bytes);
                    } else if self.survivors == Survivors::Some {
                        put_some(&mut content, *offset, bytes, odds, random);
                    }
                }
                Event::Resized { node, len_bytes }
                    if *node == of && (is_synced || odds.keeps_bytes(random)) =>
                {
                    content.resize(to_usize(*len_bytes), 0);
                }
                _ => {}
            }
        }
        content
    }
}

fn put(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = to_usize(offset);
    let end = start + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[start..end].copy_from_slice(bytes);
}

/// A write that was not synced: whole, in pieces, not at all, or its length alone.
fn put_some(content: &mut Vec<u8>, offset: u64, bytes: &[u8], odds: &Odds, random: &mut Random) {
    if random.below(2) == 0 {
        if odds.keeps_bytes(random) {
            put(content, offset, bytes);
        }
    } else {
        let end = offset + bytes.len() as u64;
        let mut at = offset;
        while at < end {
            let next = (at - at % SECTOR_BYTES + SECTOR_BYTES).min(end);
            if odds.keeps_bytes(random) {
                put(
                    content,
                    at,
                    &bytes[to_usize(at - offset)..to_usize(next - offset)],
                );
            }
            at = next;
        }
    }
    if random.below(16) == 0 {
        let end = to_usize(offset) + bytes.len();
        content.resize(content.len().max(end), 0);
    }
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).expect("it was in memory")
}
