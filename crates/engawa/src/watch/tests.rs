use std::fs;

use notify::event::{CreateKind, DataChange};

use super::*;

/// Watches paths of a project as after a build that began now.
fn watch(watcher: &mut Watcher, project: &Path, paths: &[&str]) {
    let paths: Vec<PathBuf> = paths.iter().map(|path| project.join(path)).collect();
    let watched = Watched {
        paths: &paths,
        root: Some(project),
    };
    // Files that a test has just written were there before the build.
    watcher.watch(&watched, SystemTime::now() + STAMPS_LAG);
}

async fn sees_an_edit(watcher: &Watcher) {
    let seen = tokio::time::timeout(Duration::from_mins(1), watcher.changed()).await;
    seen.expect("the edit is seen");
}

fn project() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let project = dir.path().canonicalize().unwrap().join("project");
    fs::create_dir_all(project.join("build/out")).unwrap();
    fs::write(project.join("build/out/page.html"), "one").unwrap();
    (dir, project)
}

#[tokio::test]
async fn a_file_that_is_written_or_replaced_is_seen() {
    let (_dir, project) = project();
    fs::write(project.join("a.js"), "one").unwrap();
    let mut watcher = Watcher::new().unwrap();
    watch(&mut watcher, &project, &["", "a.js"]);
    fs::write(project.join("a.js"), "two").unwrap();
    sees_an_edit(&watcher).await;
    // As editors do that never leave half a file.
    for text in ["three", "four"] {
        fs::write(project.join(".a.js.swp"), text).unwrap();
        fs::rename(project.join(".a.js.swp"), project.join("a.js")).unwrap();
        sees_an_edit(&watcher).await;
        watch(&mut watcher, &project, &["", "a.js"]);
    }
}

#[tokio::test]
async fn a_folder_that_is_made_anew_is_watched_again() {
    let (_dir, project) = project();
    let paths = ["", "build/out"];
    let mut watcher = Watcher::new().unwrap();
    watch(&mut watcher, &project, &paths);
    for text in ["two", "three"] {
        fs::remove_dir_all(project.join("build/out")).unwrap();
        fs::create_dir(project.join("build/out")).unwrap();
        sees_an_edit(&watcher).await;
        watch(&mut watcher, &project, &paths);
        // Whatever came late of the above comes before this.
        while tokio::time::timeout(QUIET, watcher.changed()).await.is_ok() {
            watch(&mut watcher, &project, &paths);
        }
        fs::write(project.join("build/out/page.html"), text).unwrap();
        sees_an_edit(&watcher).await;
    }
}

#[tokio::test]
async fn a_folder_that_is_replaced_by_renaming_is_watched_again() {
    let (_dir, project) = project();
    let paths = ["", "build/out"];
    let mut watcher = Watcher::new().unwrap();
    watch(&mut watcher, &project, &paths);
    for text in ["two", "three"] {
        fs::create_dir(project.join("build/new")).unwrap();
        fs::write(project.join("build/new/page.html"), text).unwrap();
        fs::rename(
            project.join("build/out"),
            project.join(format!("build/old-{text}")),
        )
        .unwrap();
        fs::rename(project.join("build/new"), project.join("build/out")).unwrap();
        sees_an_edit(&watcher).await;
        watch(&mut watcher, &project, &paths);
        while tokio::time::timeout(QUIET, watcher.changed()).await.is_ok() {
            watch(&mut watcher, &project, &paths);
        }
        fs::write(project.join("build/out/page.html"), "edited").unwrap();
        sees_an_edit(&watcher).await;
    }
}

#[tokio::test]
async fn a_folder_that_does_not_exist_yet_is_seen_when_it_comes() {
    let (_dir, project) = project();
    let paths = ["", "made/by/tool"];
    let mut watcher = Watcher::new().unwrap();
    watch(&mut watcher, &project, &paths);
    for folder in ["made", "made/by", "made/by/tool"] {
        fs::create_dir(project.join(folder)).unwrap();
        sees_an_edit(&watcher).await;
        watch(&mut watcher, &project, &paths);
    }
    fs::write(project.join("made/by/tool/page.html"), "one").unwrap();
    sees_an_edit(&watcher).await;
}

#[tokio::test]
async fn the_project_itself_may_go_and_come_back() {
    let (_dir, project) = project();
    let paths = ["", "wrangler.toml"];
    let mut watcher = Watcher::new().unwrap();
    watch(&mut watcher, &project, &paths);
    fs::remove_dir_all(&project).unwrap();
    sees_an_edit(&watcher).await;
    watch(&mut watcher, &project, &paths);
    fs::create_dir(&project).unwrap();
    sees_an_edit(&watcher).await;
    watch(&mut watcher, &project, &paths);
    fs::write(project.join("wrangler.toml"), "").unwrap();
    sees_an_edit(&watcher).await;
}

#[tokio::test]
async fn what_changed_while_it_was_built_is_an_edit() {
    let (_dir, project) = project();
    for edit in ["build/out/page.html", "build/out/new.html"] {
        let mut watcher = Watcher::new().unwrap();
        let began = SystemTime::now();
        fs::write(project.join(edit), "during the build").unwrap();
        let paths = [project.clone(), project.join("build/out")];
        let watched = Watched {
            paths: &paths,
            root: Some(&project),
        };
        watcher.watch(&watched, began);
        sees_an_edit(&watcher).await;
    }
}

#[test]
fn in_the_projects_own_folder_only_what_comes_and_goes_counts() {
    let interesting = |root: Option<&str>| Interesting {
        names: [PathBuf::from("/p/wrangler.toml")].into(),
        folders: [PathBuf::from("/p"), PathBuf::from("/p/out")].into(),
        root: root.map(PathBuf::from),
        lost: HashSet::new(),
    };
    let event = |kind, path: &str| notify::Event::new(kind).add_path(path.into());
    let written = |path| event(EventKind::Modify(ModifyKind::Data(DataChange::Any)), path);
    let made = |path| event(EventKind::Create(CreateKind::File), path);
    let usual = interesting(Some("/p"));
    assert!(usual.covers(&made("/p/new")));
    assert!(!usual.covers(&written("/p/debug.log")));
    assert!(usual.covers(&written("/p/wrangler.toml")));
    assert!(usual.covers(&written("/p/out/index.html")));
    assert!(!usual.covers(&made("/p/src/deep")));
    // `pages_build_output_dir = "."`
    assert!(interesting(None).covers(&written("/p/index.html")));
}
