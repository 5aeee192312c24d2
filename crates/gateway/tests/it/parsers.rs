//! The parsers alone (pages.md 9.4) and `_routes.json` (9.5).

use engawa_gateway::RoutesMatcher;
use engawa_gateway::assets::{parse_headers, parse_redirects};
use engawa_model::HtmlHandling;
use engawa_model::RoutesJson;

/// Rules as `from to status`, and the messages.
fn redirects(input: &str) -> (Vec<String>, Vec<String>) {
    let (rules, warnings) = parse_redirects(input, HtmlHandling::default());
    (
        rules
            .iter()
            .map(|rule| format!("{} {} {}", rule.from, rule.to, rule.status))
            .collect(),
        warnings
            .into_iter()
            .map(|warning| warning.message)
            .collect(),
    )
}

/// Rules as `path{name: value; !name}`, and the messages.
fn headers(input: &str) -> (Vec<String>, Vec<String>) {
    let (rules, warnings) = parse_headers(input);
    (
        rules
            .iter()
            .map(|rule| {
                let set = rule
                    .set
                    .iter()
                    .map(|(name, value)| format!("{name}: {value}"));
                let unset = rule.unset.iter().map(|name| format!("!{name}"));
                let all: Vec<String> = set.chain(unset).collect();
                format!("{}{{{}}}", rule.path, all.join("; "))
            })
            .collect(),
        warnings
            .into_iter()
            .map(|warning| warning.message)
            .collect(),
    )
}

const NOTHING: [&str; 0] = [];
const RELATIVE_OR_HTTPS: &str = "URLs should either be relative (e.g. begin with a \
    forward-slash), or use HTTPS (e.g. begin with \"https://\").";
const LOOP: &str = "Infinite loop detected in this rule and has been ignored. This will cause a \
    redirect to strip `.html` or `/index` and end up triggering this rule again. Please fix or \
    remove this rule to silence this warning.";

fn tokens(got: u32) -> String {
    format!("Expected exactly 2 or 3 whitespace-separated tokens. Got {got}.")
}

fn status(got: &str) -> String {
    format!("Valid status codes are 200, 301, 302 (default), 303, 307, or 308. Got {got}.")
}

// docs: pages.md 9.4, P1 to P19
#[test]
fn redirects_are_parsed_as_upstream_does() {
    let cases: &[(&str, &str, &[&str], &[&str])] = &[
        ("P1", "/a /b # c", &["/a /b 302"], &[]),
        ("P2", "/a /b#x # c", &["/a /b#x 302"], &[]),
        ("P3", "/a\n/a /b 301 x", &[], &[&tokens(1), &tokens(4)]),
        (
            "P4",
            "/a /b 302!\n/a /b 404\n/ /us 302 Country=us",
            &[],
            &[&status("302!"), &status("404"), &tokens(4)],
        ),
        ("P5", "/a /b 0x12d", &["/a /b 301"], &[]),
        ("P6", "yeah /b", &["/yeah /b 302"], &[]),
        (
            "P7",
            "/a https://x:8080/y",
            &["/a https://x:8080/y 302"],
            &[],
        ),
        (
            "P8",
            "/a b\n/a http://x/",
            &[],
            &[RELATIVE_OR_HTTPS, RELATIVE_OR_HTTPS],
        ),
        (
            "P9",
            "/a /b\n/a /c\n/a#z /d",
            &["/a /b 302"],
            &[
                "Ignoring duplicate rule for path /a.",
                "Ignoring duplicate rule for path /a.",
            ],
        ),
        (
            "P10",
            "/* /index.html 200\n/* /index\n/ /index.html\n/foo/ /bar/index",
            &[],
            &[LOOP, LOOP, LOOP, LOOP],
        ),
        (
            "P11",
            "/foo /index.html\n/a https://x/index.html",
            &["/foo /index.html 302", "/a https://x/index.html 302"],
            &[],
        ),
        (
            "P12",
            "/a https://x.test/b 200\n/a /c 302",
            &[],
            &[
                "Proxy (200) redirects can only point to relative paths. Got https://x.test/b",
                "Ignoring duplicate rule for path /a.",
            ],
        ),
        (
            "P13",
            "/café /é?q=é#é",
            &["/caf%C3%A9 /%C3%A9?q=%C3%A9#%C3%A9 302"],
            &[],
        ),
        (
            "P14",
            "\u{feff}/a /b\r\n/c\t/d\t301\r\n",
            &["/a /b 302", "/c /d 301"],
            &[],
        ),
        (
            "P19",
            "/a/../b /c\n//cc /d",
            &["/b /c 302", "//cc /d 302"],
            &[],
        ),
        (
            "absolute from",
            "https://x.test/a /b",
            &[],
            &["Only relative URLs are allowed. Skipping absolute URL https://x.test/a."],
        ),
    ];
    for (id, input, rules, messages) in cases {
        let got = redirects(input);
        assert_eq!(got.0, *rules, "{id}");
        assert_eq!(got.1, *messages, "{id}");
    }
}

// docs: pages.md 9.4, P15 to P18
#[test]
fn redirects_keep_to_upstreams_limits() {
    let lines = |count: usize, line: &dyn Fn(usize) -> String| {
        (0..count).map(line).collect::<Vec<_>>().join("\n")
    };
    let (rules, messages) = redirects(&lines(2002, &|n| format!("/a{n} /b")));
    assert_eq!((rules.len(), messages.len()), (2000, 2), "P15");
    assert_eq!(
        messages[0],
        "Maximum number of static rules supported is 2000. Skipping line."
    );

    let (rules, messages) = redirects(&lines(102, &|n| format!("/a{n}/* /b")));
    assert_eq!(rules.len(), 100, "P16");
    let skipping =
        "Maximum number of dynamic rules supported is 100. Skipping remaining 2 lines of file.";
    assert_eq!(messages, [skipping]);

    let (rules, messages) = redirects(&format!(
        "/d/* /x\n{}",
        lines(105, &|n| format!("/a{n} /b"))
    ));
    assert_eq!(rules.len(), 100, "P17");
    assert!(
        messages[0].ends_with("Skipping remaining 6 lines of file."),
        "{messages:?}"
    );

    let long = format!("/{} /b", "a".repeat(2000));
    let (rules, messages) = redirects(&long);
    assert_eq!((rules.len(), long.len()), (0, 2004), "P18");
    assert_eq!(
        messages,
        ["Ignoring line 1 as it exceeds the maximum allowed length of 2000."]
    );
}

// docs: pages.md 9.4, P20 to P33
#[test]
fn headers_are_parsed_as_upstream_does() {
    let pair = "Expected a colon-separated header pair (e.g. name: value)";
    let cases: &[(&str, &str, &[&str], &[&str])] = &[
        ("P20", "/a", &[], &["No headers specified"]),
        (
            "P21",
            "/a\n/b\nX: 1",
            &["/b{x: 1}"],
            &["No headers specified"],
        ),
        (
            "P22",
            "X: 1\n/a\nY: 2",
            &["/a{y: 2}"],
            &["Path should come before header (x: 1)"],
        ),
        (
            "P23",
            "/a\nX Y: 1\n: v\nX:\nnocolon",
            &[],
            &[
                "Header name cannot include spaces",
                "No header name specified",
                "No header value specified",
                pair,
                "No headers specified",
            ],
        ),
        (
            "P24",
            "/a\n! X\n! Y Z\n!Z\n! W: 1\n!V: 1",
            &["/a{!v: 1; !X; !Y Z}"],
            &[pair, "Header name cannot include spaces"],
        ),
        (
            "P25",
            "https://x.test:8443/a\nX: 1",
            &[],
            &["Specifying ports is not supported. Skipping absolute URL https://x.test:8443/a."],
        ),
        ("P26", "http://x.test/a\nX: 1", &[], &[RELATIVE_OR_HTTPS]),
        (
            "P27",
            "/a*b*\nX: 1\n/c\nY: 1",
            &["/c{y: 1}"],
            &[
                "Only one wildcard is allowed per rule. Use a named placeholder (e.g. :project) instead. Skipping /a*b*.",
            ],
        ),
        (
            "P28",
            "/a/:splat/*\nX: 1",
            &[],
            &[
                "Cannot combine a wildcard * with a :splat placeholder because wildcards are converted to :splat at runtime. Skipping /a/:splat/*.",
            ],
        ),
        ("P29", "/a\nX: 1\nX: 2\nx: 3", &["/a{x: 1, 2, 3}"], &[]),
        ("P30", "/a # c\nX: 1 # c", &["/a%20{x: 1 # c}"], &[]),
        (
            "P31",
            "https://X.TEST/a?q#h\nX: 1",
            &["https://X.TEST/a{x: 1}"],
            &[],
        ),
        (
            "P33",
            "a\nX: 1",
            &[],
            &[
                "Expected a path beginning with at least one forward-slash",
                "Path should come before header (x: 1)",
            ],
        ),
    ];
    for (id, input, rules, messages) in cases {
        let got = headers(input);
        assert_eq!(got.0, *rules, "{id}");
        assert_eq!(got.1, *messages, "{id}");
    }
    let lines: Vec<Option<usize>> = parse_headers("/a\n/b\nX: 1")
        .1
        .iter()
        .map(|w| w.line_number)
        .collect();
    assert_eq!(lines, [Some(2)], "P21 is reported at the next path");
    assert_eq!(parse_headers("/a").1[0].line_number, None, "P20");

    let many: Vec<String> = (0..103).map(|n| format!("/a{n}\n  X: 1\n")).collect();
    let many = many.concat();
    let (rules, messages) = headers(&many);
    assert_eq!(rules.len(), 101, "P32");
    assert!(
        messages[0].starts_with("Maximum number of rules supported is 100."),
        "{messages:?}"
    );
    assert_eq!(headers("").0, NOTHING);
}

fn worker(include: &[&str], exclude: &[&str], path: &str) -> bool {
    let list = |rules: &[&str]| rules.iter().map(|rule| (*rule).to_owned()).collect();
    RoutesMatcher::new(&RoutesJson {
        version: 1,
        description: None,
        include: list(include),
        exclude: list(exclude),
    })
    .matches(path)
}

// docs: pages.md 4.2 and 9.5, J11 to J16 (validation and generation are the project's)
#[test]
fn routes_match_as_upstream_does() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("/", &["/"], &["/a", "//"]),
        ("/*", &["/", "/a", "/a/b"], &[]),
        (
            "/foo/*",
            &["/foo", "/foo/", "/foo/b", "/foo/a/b"],
            &["/foobar", "/fo"],
        ),
        ("/foo", &["/foo", "/foo/"], &["/foo//", "/foo/b", "/FOO"]),
        ("/foo/", &["/foo", "/foo/"], &["/foo//", "/foo/a"]),
        ("/foo*", &["/foo", "/foobar", "/foo/a"], &["/fo"]),
        ("/*.*", &["/a.b", "/x/y.css"], &["/ab"]),
        (
            "/a/*/c",
            &["/a/b/c", "/a/b/d/c", "/a/b/c/"],
            &["/a/c", "/a/b/cd"],
        ),
        (
            "/a/*/c/*",
            &["/a/b/c", "/a/b/c/", "/a/b/c/d"],
            &["/a/c", "/a/b/cd"],
        ),
        ("/a*a", &["/aa", "/aba"], &["/a", "/ab"]),
        ("/café", &[], &["/caf%C3%A9"]),
        ("/a+b(c)[d]?", &["/a+b(c)[d]?"], &["/aab(c)[d]", "/a"]),
    ];
    for (rule, yes, no) in cases {
        for path in *yes {
            assert!(worker(&[rule], &[], path), "{rule} should match {path}");
        }
        for path in *no {
            assert!(
                !worker(&[rule], &[], path),
                "{rule} should not match {path}"
            );
        }
    }
    // J16
    let include = ["/", "/greeting/*", "/greeting*", "/date"];
    let exclude = ["/bye*", "/date", "/*.*"];
    let got = ["/date", "/greetings", "/greeting/test.json", "/zzz"]
        .map(|path| worker(&include, &exclude, path));
    assert_eq!(got, [false, true, false, false]);
}
