//! One project under Engawa and under `wrangler pages dev`, asked the same requests: what is
//! different in status, headers and body, and which differences have an explanation.
//!
//! A list of requests is a text file. A line at the margin is a request, what is indented
//! below it belongs to it:
//!
//! ```text
//! # a remark
//! POST /form
//!   Content-Type: text/plain
//!   > a line of the body
//! ```
//!
//! A list of explained differences has a line for each, `PROJECT | REQUEST | WHAT | WHY`, in
//! which `*` stands for any text and WHAT is `status`, `body` or `header NAME`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::oracle::Oracle;
use crate::{Dev, PATIENCE};

/// One difference between the two.
#[derive(Debug)]
pub struct Difference {
    /// The project's folder, by its name.
    pub project: String,
    /// Method and path, and the number of the same request before it if there is one.
    pub request: String,
    /// `status`, `body` or `header NAME`.
    pub what: String,
    /// What Engawa answers; `-` for a header that is not there.
    pub engawa: String,
    /// What wrangler answers.
    pub wrangler: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} | {} | {}\n  engawa:   {}\n  wrangler: {}",
            self.project, self.request, self.what, self.engawa, self.wrangler
        )
    }
}

/// Serves copies of a project with both and asks the requests of a list.
///
/// # Errors
/// When a file cannot be read or copied, or a server does not answer.
///
/// # Panics
/// When a server does not become ready, with what it said.
pub fn compare(
    engawa: &Path,
    packages: &Path,
    project: &Path,
    requests: &Path,
) -> anyhow::Result<Vec<Difference>> {
    let text = fs::read_to_string(requests)
        .with_context(|| format!("cannot read the requests of {}", requests.display()))?;
    let requests = parse_requests(&text)?;
    let project = project
        .canonicalize()
        .with_context(|| format!("there is no {}", project.display()))?;
    // wrangler builds in the project's folder, and both keep their state there.
    let (ours, theirs) = (copied(&project)?, copied(&project)?);
    let oracle = Oracle::start(packages, theirs.path());
    let dev = Dev::start_with(engawa, ours.path(), &[]);
    let name = project
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut differences = Vec::new();
    for request in &requests {
        let here = request.ask(dev.address).context("engawa")?;
        let there = request.ask(oracle.address()).context("wrangler")?;
        differences.extend(
            here.differences(&there)
                .map(|(what, engawa, wrangler)| Difference {
                    project: name.clone(),
                    request: request.name.clone(),
                    what,
                    engawa,
                    wrangler,
                }),
        );
    }
    Ok(differences)
}

/// Differences that are meant, with the reason.
#[derive(Debug, Default)]
pub struct Explained(Vec<Explanation>);

#[derive(Debug)]
struct Explanation {
    project: String,
    request: String,
    what: String,
    why: String,
}

impl Explained {
    /// Reads a list.
    ///
    /// # Errors
    /// When it cannot be read, or a line is none.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut list = Vec::new();
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parts: Vec<&str> = line.splitn(4, '|').map(str::trim).collect();
            let [project, request, what, why] = parts[..] else {
                bail!(
                    "{}: not PROJECT | REQUEST | WHAT | WHY: {line}",
                    path.display()
                );
            };
            list.push(Explanation {
                project: project.to_owned(),
                request: request.to_owned(),
                what: what.to_owned(),
                why: why.to_owned(),
            });
        }
        Ok(Self(list))
    }

    /// Why a difference is meant, if it is.
    pub fn why(&self, difference: &Difference) -> Option<&str> {
        let explanation = self.0.iter().find(|it| it.explains(difference))?;
        Some(&explanation.why)
    }

    /// The lines on one project that explain none of its differences.
    pub fn unused(&self, project: &str, differences: &[Difference]) -> Vec<String> {
        let used: BTreeSet<usize> = differences
            .iter()
            .filter_map(|difference| self.0.iter().position(|it| it.explains(difference)))
            .collect();
        self.0
            .iter()
            .enumerate()
            .filter(|(number, it)| it.project == project && !used.contains(number))
            .map(|(_, it)| format!("{} | {} | {} | {}", it.project, it.request, it.what, it.why))
            .collect()
    }
}

impl Explanation {
    fn explains(&self, difference: &Difference) -> bool {
        matches(&self.project, &difference.project)
            && matches(&self.request, &difference.request)
            && matches(&self.what, &difference.what)
    }
}

/// Whether a text has the form of a pattern, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            rest.is_empty()
                || text
                    .char_indices()
                    .any(|(index, _)| matches(rest, &text[index..]))
        }),
    }
}

#[derive(Debug, Default)]
struct Request {
    /// What a list of explanations calls it.
    name: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
}

fn parse_requests(text: &str) -> anyhow::Result<Vec<Request>> {
    let mut requests: Vec<Request> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = || format!("line {number} of the requests is none: {line}");
        let Some(detail) = line.strip_prefix("  ") else {
            let (method, path) = line.trim().split_once(' ').with_context(wrong)?;
            let before = requests
                .iter()
                .filter(|request| request.method == method && request.path == path)
                .count();
            let again = if before == 0 {
                String::new()
            } else {
                format!(" #{}", before + 1)
            };
            requests.push(Request {
                name: format!("{method} {path}{again}"),
                method: method.to_owned(),
                path: path.to_owned(),
                ..Request::default()
            });
            continue;
        };
        let request = requests.last_mut().with_context(wrong)?;
        if let Some(body) = detail.strip_prefix("> ") {
            let text = request.body.get_or_insert_default();
            text.push_str(body);
            text.push('\n');
        } else {
            let (name, value) = detail.split_once(": ").with_context(wrong)?;
            request.headers.push((name.to_owned(), value.to_owned()));
        }
    }
    Ok(requests)
}

impl Request {
    /// Sends it byte by byte: a client library would mend paths like `/a//b` and `%zz`.
    fn ask(&self, address: SocketAddr) -> anyhow::Result<Answer> {
        let mut bytes = Vec::new();
        write!(bytes, "{} {} HTTP/1.1\r\n", self.method, self.path)?;
        if !self.has("host") {
            write!(bytes, "Host: localhost\r\n")?;
        }
        for (name, value) in &self.headers {
            write!(bytes, "{name}: {value}\r\n")?;
        }
        if let Some(body) = &self.body {
            write!(bytes, "Content-Length: {}\r\n", body.len())?;
        }
        write!(bytes, "Connection: close\r\n\r\n")?;
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default().as_bytes());
        let exchange = || -> std::io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&bytes)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        };
        let answer = exchange().with_context(|| format!("no answer to {}", self.name))?;
        Answer::parse(&answer).with_context(|| format!("no answer to {}", self.name))
    }

    fn has(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|(header, _)| header.eq_ignore_ascii_case(name))
    }
}

/// Of the connection rather than of the answer; `Date` is the time.
const NOT_COMPARED: &[&str] = &[
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "transfer-encoding",
];

#[derive(Debug)]
struct Answer {
    status: String,
    /// By name in small letters; the values of one name in their order.
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]);
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.to_owned();
        let mut headers = BTreeMap::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            headers
                .entry(name.to_ascii_lowercase())
                .and_modify(|values: &mut String| {
                    values.push_str(", ");
                    values.push_str(value.trim());
                })
                .or_insert_with(|| value.trim().to_owned());
        }
        let mut body = bytes[end + 4..].to_vec();
        if headers
            .get("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
        {
            body = unchunked(&body)?;
        }
        Some(Self {
            status,
            headers,
            body,
        })
    }

    /// What differs, with both sides.
    fn differences(&self, other: &Self) -> impl Iterator<Item = (String, String, String)> {
        let names: BTreeSet<&String> = self.headers.keys().chain(other.headers.keys()).collect();
        let value = |answer: &Self, name: &String| {
            answer
                .headers
                .get(name)
                .cloned()
                .unwrap_or_else(|| "-".to_owned())
        };
        let mut all = vec![(
            "status".to_owned(),
            self.status.clone(),
            other.status.clone(),
        )];
        for name in names {
            if !NOT_COMPARED.contains(&name.as_str()) {
                all.push((
                    format!("header {name}"),
                    value(self, name),
                    value(other, name),
                ));
            }
        }
        all.push(("body".to_owned(), shown(&self.body), shown(&other.body)));
        all.into_iter().filter(|(_, here, there)| here != there)
    }
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(end + 2..end + 2 + size)?);
        rest = rest.get(end + 4 + size..)?;
    }
}

/// A body on one line.
fn shown(body: &[u8]) -> String {
    body.escape_ascii().to_string()
}

/// A copy that goes with its handle. Packages are linked: they are large, and nobody
/// writes there.
fn copied(project: &Path) -> anyhow::Result<tempfile::TempDir> {
    let copy = tempfile::tempdir()?;
    copy_below(project, copy.path())
        .with_context(|| format!("cannot copy {}", project.display()))?;
    Ok(copy)
}

fn copy_below(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, target) = (entry.file_name(), to.join(entry.file_name()));
        if name == ".git" || name == ".engawa" || name == ".wrangler" {
            continue;
        }
        if name == "node_modules" {
            std::os::unix::fs::symlink(entry.path(), target)?;
        } else if fs::metadata(entry.path())?.is_dir() {
            fs::create_dir(&target)?;
            copy_below(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
