//! `_routes.json`: which paths go to the worker (pages.md 4).
//!
//! This is the file as a value, and what makes it valid. Matching a request against it is
//! the gateway's; generating one from `functions/` is `engawa-project`'s.

use serde::{Deserialize, Serialize};

use crate::limits::{ROUTES_RULE_CHARS, ROUTES_RULES};

/// The rules of a `_routes.json`.
///
/// [`RoutesJson::parse`] is the way from text; a value made in another way is checked
/// with [`RoutesJson::validate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutesJson {
    /// Always 1.
    pub version: u32,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Paths that go to the worker, unless excluded.
    pub include: Vec<String>,
    /// Paths that never do. Tried first.
    pub exclude: Vec<String>,
}

/// Why a `_routes.json` is refused. The texts after the first line are wrangler's own
/// (`routes-validation.ts`), so that a search finds them; which file it is, the caller
/// says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoutesError {
    /// Not JSON, or not of the schema.
    #[error(
        "Please make sure the JSON object has the following format:\n{{\n\tversion: 1;\n\tinclude: string[];\n\texclude: string[];\n}}\nand that at least one include rule is provided. ({0})"
    )]
    Invalid(String),
    /// `include` is empty.
    #[error("Routes must have at least 1 include rule, but no include rules were detected.")]
    NoIncludeRules,
    /// More than [`ROUTES_RULES`] in both lists together.
    #[error(
        "Detected rules that are over the {ROUTES_RULES} rule limit. Please make sure you have a total of {ROUTES_RULES} include and exclude rules combined. (There are {0}.)"
    )]
    TooManyRules(usize),
    /// A rule is longer than [`ROUTES_RULE_CHARS`].
    #[error(
        "Detected rules that are over the {ROUTES_RULE_CHARS} character limit. Please make sure that each include and exclude routing rule is at most {ROUTES_RULE_CHARS} characters long. ({0:?})"
    )]
    RuleTooLong(String),
    /// A rule does not begin with `/`.
    #[error("All rules must start with '/'. ({0:?} does not.)")]
    NoLeadingSlash(String),
    /// A rule that ends in `/*` covers another of the same list.
    #[error(
        "Overlapping rules found. Please make sure that rules ending with a splat (eg. \"/api/*\") don't overlap any other rules (eg. \"/api/foo\"). This applies to both include and exclude rules individually. ({splat:?} covers {covered:?}.)"
    )]
    Overlapping {
        /// The rule that ends in `/*`.
        splat: String,
        /// The one that it makes redundant.
        covered: String,
    },
}

impl RoutesJson {
    /// Reads and checks the text of a `_routes.json`. Unknown members are ignored.
    pub fn parse(text: &str) -> Result<Self, RoutesError> {
        // The version is checked before the shape of the rest, as a number of any spelling
        // (`1.0`), like upstream.
        let value: serde_json::Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
            .map_err(|error| RoutesError::Invalid(error.to_string()))?;
        if value.get("version").and_then(serde_json::Value::as_f64) != Some(1.0) {
            return Err(RoutesError::Invalid("`version` must be 1".to_owned()));
        }
        let rules = |name: &str| -> Result<Vec<String>, RoutesError> {
            serde_json::from_value(value.get(name).cloned().unwrap_or_default())
                .map_err(|_| RoutesError::Invalid(format!("`{name}` must be an array of strings")))
        };
        let routes = Self {
            version: 1,
            description: value
                .get("description")
                .and_then(serde_json::Value::as_str)
                .map(str::to_owned),
            include: rules("include")?,
            exclude: rules("exclude")?,
        };
        routes.validate()?;
        Ok(routes)
    }

    /// Checks the rules in upstream's order; the first fault is returned.
    pub fn validate(&self) -> Result<(), RoutesError> {
        if self.version != 1 {
            return Err(RoutesError::Invalid("`version` must be 1".to_owned()));
        }
        if self.include.is_empty() {
            return Err(RoutesError::NoIncludeRules);
        }
        let count = self.include.len() + self.exclude.len();
        if count > ROUTES_RULES {
            return Err(RoutesError::TooManyRules(count));
        }
        let all = || self.include.iter().chain(&self.exclude);
        if let Some(rule) = all().find(|rule| rule.encode_utf16().count() > ROUTES_RULE_CHARS) {
            return Err(RoutesError::RuleTooLong(rule.clone()));
        }
        if let Some(rule) = all().find(|rule| !rule.starts_with('/')) {
            return Err(RoutesError::NoLeadingSlash(rule.clone()));
        }
        check_overlap(&self.include)?;
        check_overlap(&self.exclude)
    }
}

/// At most [`ROUTES_RULES`] rules come in, so comparing all pairs is cheap.
fn check_overlap(rules: &[String]) -> Result<(), RoutesError> {
    for splat in rules {
        let Some(prefix) = splat.strip_suffix('*').filter(|rest| rest.ends_with('/')) else {
            continue;
        };
        let covered = rules
            .iter()
            .find(|rule| *rule != splat && rule.starts_with(prefix));
        if let Some(covered) = covered {
            return Err(RoutesError::Overlapping {
                splat: splat.clone(),
                covered: covered.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{RoutesError, RoutesJson};

    fn routes(include: &[&str], exclude: &[&str]) -> Result<RoutesJson, RoutesError> {
        let json = serde_json::json!({ "version": 1, "include": include, "exclude": exclude });
        RoutesJson::parse(&json.to_string())
    }

    // wrangler: routes-validation.test.ts
    // docs: pages.md 9.5, J2
    #[test]
    fn the_shape_is_checked_first() {
        for text in [
            "",
            "[]",
            r#"{"include":["/*"],"exclude":[]}"#,
            r#"{"version":"1","include":["/*"],"exclude":[]}"#,
            r#"{"version":2,"include":["/*"],"exclude":[]}"#,
            r#"{"version":1,"include":["/*"]}"#,
            r#"{"version":1,"include":"/*","exclude":[]}"#,
            r#"{"version":1,"include":[1],"exclude":[]}"#,
        ] {
            let error = RoutesJson::parse(text).expect_err(text);
            assert!(matches!(error, RoutesError::Invalid(_)), "{text}: {error}");
        }
    }

    // docs: pages.md 9.5, J1
    #[test]
    fn unknown_members_and_a_description_are_accepted() {
        let text = r#"{"version":1.0,"description":"d","include":["/a"],"exclude":[],"x":1}"#;
        let routes = RoutesJson::parse(text).unwrap();
        assert_eq!(routes.description.as_deref(), Some("d"));
        assert_eq!(routes.include, ["/a"]);
    }

    // docs: pages.md 9.5, J3
    #[test]
    fn at_least_one_include_rule_is_needed() {
        assert_eq!(routes(&[], &["/a"]), Err(RoutesError::NoIncludeRules));
    }

    // docs: pages.md 9.5, J5 and J6
    #[test]
    fn a_hundred_rules_of_a_hundred_characters_are_allowed() {
        let names: Vec<String> = (0..101).map(|n| format!("/{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(routes(&names[..99], &names[..1]).is_ok());
        assert_eq!(
            routes(&names[..100], &names[..1]),
            Err(RoutesError::TooManyRules(101))
        );
        let long = format!("/{}", "a".repeat(99));
        assert!(routes(&[&long], &[]).is_ok());
        let longer = format!("{long}a");
        assert_eq!(
            routes(&["/"], &[&longer]),
            Err(RoutesError::RuleTooLong(longer.clone()))
        );
    }

    // docs: pages.md 9.5, J4
    #[test]
    fn rules_begin_with_a_slash() {
        assert_eq!(
            routes(&["/a"], &["b"]),
            Err(RoutesError::NoLeadingSlash("b".to_owned()))
        );
    }

    // pages.md 4.1
    // docs: pages.md 9.5, J7 to J10
    #[test]
    fn overlap_is_looked_for_in_each_list_alone() {
        assert!(matches!(
            routes(&["/api/*", "/api/x"], &[]),
            Err(RoutesError::Overlapping { .. })
        ));
        assert!(matches!(
            routes(&["/"], &["/a/*", "/a/b/*"]),
            Err(RoutesError::Overlapping { .. })
        ));
        assert!(routes(&["/api/*", "/api", "/api/*"], &["/api/x"]).is_ok());
        assert!(routes(&["/foo*", "/foobar"], &[]).is_ok());
    }
}
