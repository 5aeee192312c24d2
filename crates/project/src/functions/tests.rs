use std::path::{Path, PathBuf};

use super::order::compare_text;
use super::pattern::{Param, Pattern, compile};
use super::{FunctionFile, Route, Tree, list};

/// Routes of files that each export `onRequest`, or what stands after a `:`.
fn tree(files: &[&str]) -> (Tree, Vec<String>) {
    let files: Vec<(FunctionFile, Vec<String>)> = files
        .iter()
        .map(|text| {
            let (path, exports) = text.rsplit_once(':').unwrap_or((text, "onRequest"));
            let exports = exports.split(',').map(str::to_owned).collect();
            (FunctionFile { path: path.into() }, exports)
        })
        .collect();
    let (tree, diagnostics) = Tree::new(
        Path::new("functions"),
        files.iter().map(|(file, exports)| (file, &exports[..])),
    );
    let messages = diagnostics.iter().map(|d| d.message.clone()).collect();
    (tree, messages)
}

fn paths(files: &[&str]) -> Vec<String> {
    let (tree, messages) = tree(files);
    assert_eq!(messages, Vec::<String>::new());
    tree.routes.into_iter().map(|route| route.path).collect()
}

fn include(files: &[&str]) -> Vec<String> {
    let routes = tree(files).0.routes_json();
    routes.validate().expect("a generated file is valid");
    routes.include
}

// pages.md 5.1
#[test]
fn file_names_become_routes() {
    for (file, path, mount) in [
        ("index.js", "/", "/"),
        ("a/index.ts", "/a", "/a"),
        ("a.jsx", "/a", "/"),
        ("users/[id].js", "/users/:id", "/users"),
        ("users/[[rest]].js", "/users/:rest*", "/users"),
        ("x[id].js", "/x:id", "/"),
        ("y-[id]-z.js", "/y-:id-z", "/"),
        ("[id]/edit.js", "/:id/edit", "/:id"),
        ("_middleware.js", "/", "/"),
        ("a/_middleware_.js", "/a", "/a"),
        ("a.b.js", "/a.b", "/"),
        ("index/index.js", "/index", "/index"),
        ("x.d.ts", "/x.d", "/"),
    ] {
        let (tree, messages) = tree(&[file]);
        assert_eq!(messages, Vec::<String>::new());
        assert_eq!(tree.routes[0].path, path, "{file}");
        assert_eq!(tree.routes[0].mount_path, mount, "{file}");
    }
}

// issue: the specification's own spelling
#[test]
fn a_dotted_catch_all_is_accepted_with_a_warning() {
    let (tree, messages) = tree(&["api/v1/[[...route]].ts"]);
    assert_eq!(tree.routes[0].path, "/api/v1/:route*");
    assert_eq!(messages.len(), 1);
    assert!(messages[0].contains("wrangler refuses"), "{}", messages[0]);
    let (tree, messages) = self::tree(&["[[...all]]/x.ts"]);
    assert_eq!(tree.routes[0].mount_path, "/:all*");
    assert_eq!(messages.len(), 1);
}

// wrangler: filepath-routing.test.ts
#[test]
fn a_parameter_with_other_characters_is_refused_by_name() {
    for (file, text) in [
        ("[a-b].js", "[a-b]"),
        ("[[a b]].js", "[[a b]]"),
        ("[...slug].ts", "[...slug]"),
        ("[[[x]].ts", "[[[x]]"),
    ] {
        let (tree, messages) = tree(&[file]);
        assert_eq!(tree.routes, []);
        let expected = format!("Invalid Pages function route parameter - \"{text}\".");
        assert!(messages[0].starts_with(&expected), "{}", messages[0]);
        assert!(messages[0].contains(file));
    }
}

// pages.md 5.2
#[test]
fn specific_routes_come_first() {
    assert_eq!(
        paths(&[
            "index.js",
            "[[a]].js",
            "[a].js",
            "foo.js",
            "x[y]/z.js",
            "[a]/b.js",
            "foo/[[c]].js",
            "foo/[b].js",
            "foo/bar.js",
        ]),
        [
            "/foo/bar", "/foo/:b", "/foo/:c*", "/:a/b", "/x:y/z", "/foo", "/:a", "/:a*", "/"
        ]
    );
}

#[test]
fn a_route_with_a_method_comes_before_one_without() {
    let (tree, _) = tree(&["m.js:onRequest,onRequestPost,onRequestGet,helper,onRequestX"]);
    let methods: Vec<_> = tree.routes.iter().map(|route| route.method).collect();
    assert_eq!(methods, [Some("POST"), Some("GET"), None]);
}

// pages.md 5.1: `a/index.js` wins, and both live if their methods differ.
#[test]
fn one_route_and_method_has_one_module_and_one_middleware() {
    let (tree, _) = tree(&["dup.js", "dup/_middleware.js", "dup/index.js"]);
    let [
        Route {
            module,
            middleware,
            mount_path,
            ..
        },
    ] = &tree.routes[..]
    else {
        panic!("{:?}", tree.routes);
    };
    assert_eq!(module.as_ref().unwrap().file, PathBuf::from("dup/index.js"));
    assert_eq!(
        middleware.as_ref().unwrap().file,
        PathBuf::from("dup/_middleware.js")
    );
    assert_eq!(mount_path, "/dup");

    let (tree, _) = self::tree(&["both.js:onRequestGet", "both/index.js:onRequestPost"]);
    assert_eq!(tree.routes.len(), 2);
}

// pages.md 4.4
// docs: pages.md 9.5, J17 and J18
#[test]
fn routes_json_lists_what_the_routes_need() {
    assert_eq!(
        include(&[
            "api/foo/bar.js",
            "index.js",
            "users/[id]/edit.js",
            "blog/[[slug]].js",
            "mw/_middleware.js",
        ]),
        ["/", "/users/*", "/mw/*", "/blog/*", "/api/foo/bar"]
    );
    assert_eq!(include(&["[x].js"]), ["/*"]);
    assert_eq!(include(&["_middleware.js", "a.js"]), ["/*"]);
    assert_eq!(include(&["a.js", "a/[[b]].js"]), ["/a", "/a/*"]);
    assert_eq!(include(&["a/b.js", "a/[c].js", "a/[c]/d.js"]), ["/a/*"]);
    assert_eq!(include(&["x[id].js"]), ["/x*"]);
}

// wrangler: routes-consolidation.test.ts
// docs: pages.md 9.5, J19
#[test]
fn routes_json_keeps_within_the_limits() {
    let long = "a".repeat(60);
    assert_eq!(
        include(&[&format!("{long}/{long}.js")]),
        [format!("/{long}/*")]
    );
    assert_eq!(include(&[&format!("{}.js", "a".repeat(100))]), ["/*"]);
    let exact = "a".repeat(99);
    assert_eq!(include(&[&format!("{exact}.js")]), [format!("/{exact}")]);
    // The slash at the last place that still leaves room for `*`.
    let (head, tail) = ("b".repeat(97), "c".repeat(9));
    assert_eq!(
        include(&[&format!("{head}/{tail}.js")]),
        [format!("/{head}/*")]
    );

    let many: Vec<String> = (0..101).map(|n| format!("r{n}.js")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(include(&many), ["/*"]);
    assert_eq!(include(&many[..100]).len(), 100);
}

/// What path-to-regexp 6.3.0 makes of each path, without its empty alternative `[]|`.
#[test]
fn patterns_are_those_of_path_to_regexp() {
    let param = |name: &str, catch_all| Param {
        name: name.to_owned(),
        catch_all,
    };
    let delimited = r"(?:[\/#\?](?=$))?";
    let open = r"(?:[\/#\?](?=$))?(?=[\/#\?]|$)";
    for (path, body, end, params) in [
        ("/", r"^\/", delimited, vec![]),
        ("/a", r"^\/a", open, vec![]),
        ("/a.b", r"^\/a\.b", open, vec![]),
        (
            "/users/:id",
            r"^\/users(?:\/([^\/#\?]+?))",
            open,
            vec![param("id", false)],
        ),
        (
            "/users/:rest*",
            r"^\/users(?:\/((?:[^\/#\?]+?)(?:\/(?:[^\/#\?]+?))*))?",
            open,
            vec![param("rest", true)],
        ),
        (
            "/y-:id-z",
            r"^\/y-([^\/#\?]+?)-z",
            open,
            vec![param("id", false)],
        ),
        (
            "/:id/edit",
            r"^(?:\/([^\/#\?]+?))\/edit",
            open,
            vec![param("id", false)],
        ),
        (
            "/:a.:b",
            r"^(?:\/([^\/#\?]+?))\.((?:(?!\.)[^\/#\?])+?)",
            open,
            vec![param("a", false), param("b", false)],
        ),
        (
            "/multi/:rest*/tail",
            r"^\/multi(?:\/((?:[^\/#\?]+?)(?:\/(?:[^\/#\?]+?))*))?\/tail",
            open,
            vec![param("rest", true)],
        ),
        ("/b]", r"^\/b\]", delimited, vec![]),
        ("/a=b!c|d^", r"^\/a\=b\!c\|d\^", open, vec![]),
    ] {
        let expected = Pattern::Matches {
            full: format!(r"{body}[\/#\?]?$"),
            prefix: format!("{body}{end}"),
            params,
        };
        assert_eq!(compile(path), expected, "{path}");
    }
}

// pages.md 5.1 and F34
#[test]
fn a_pattern_that_throws_on_pages_is_kept_and_named() {
    for (path, reason) in [
        (
            "/:a:b",
            "Must have text between two parameters, missing text after \"a\"",
        ),
        (
            "/x:id*",
            "Can not repeat \"id\" without a prefix and suffix",
        ),
        ("/:", "Missing parameter name at 1"),
        ("/a*", "Unexpected MODIFIER at 2, expected END"),
    ] {
        assert_eq!(compile(path), Pattern::Broken(reason.to_owned()));
    }
    let (tree, messages) = tree(&["[a][b].js"]);
    assert_eq!(tree.routes.len(), 1);
    assert!(messages[0].contains("makes every request fail"));
}

// CLDR root collation, as `localeCompare` follows it
#[test]
fn equal_routes_are_ordered_as_a_locale_does() {
    let mut names = ["/b", "/B", "/a", "/:z", "/_x", "/1", "/a-b", "/ab", "/A"];
    names.sort_by(|a, b| compare_text(a, b));
    assert_eq!(
        names,
        ["/_x", "/:z", "/1", "/a", "/A", "/a-b", "/ab", "/b", "/B"]
    );
}

// pages.md 5.1
#[test]
fn folders_are_walked_breadth_first_without_following_links() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for path in [
        "z.js",
        "a/index.js",
        "a/b/c.tsx",
        "node_modules/m.mjs",
        ".x/y.ts",
        "no.cjs",
        "no.json",
    ] {
        std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        std::fs::write(root.join(path), "").unwrap();
    }
    std::os::unix::fs::symlink(root.join("a"), root.join("linked")).unwrap();
    std::os::unix::fs::symlink(root.join("z.js"), root.join("linked.js")).unwrap();
    let listing = list(root).unwrap();
    let files: Vec<&str> = listing
        .files
        .iter()
        .map(|file| file.path.to_str().unwrap())
        .collect();
    assert_eq!(
        files,
        [
            "z.js",
            ".x/y.ts",
            "a/index.js",
            "node_modules/m.mjs",
            "a/b/c.tsx"
        ]
    );
    assert_eq!(listing.folders.len(), 5);
}
