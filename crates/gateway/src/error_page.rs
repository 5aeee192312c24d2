//! Cloudflare's error pages (pages.md 8.10): HTML, JSON or Markdown by `Accept`.

use std::fmt::Write as _;

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::body::Body;

/// What went wrong with a worker's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ErrorPage {
    pub(crate) status: StatusCode,
    /// Cloudflare's number, or the status where it has none.
    pub(crate) code: u16,
    name: &'static str,
    category: &'static str,
    title: &'static str,
    what_happened: &'static str,
    what_to_do: &'static str,
    retry_after_s: Option<u32>,
}

/// 1101: the worker threw, or its connection broke.
pub(crate) const WORKER_THREW: ErrorPage = ErrorPage {
    status: StatusCode::INTERNAL_SERVER_ERROR,
    code: 1101,
    name: "worker_exception",
    category: "worker",
    title: "Worker threw exception",
    what_happened: "The worker that answers this page ended with an error.",
    what_to_do: "If you own this site, look at its logs for the ray id below.",
    retry_after_s: None,
};

/// 1102: the instance was ended because it burnt CPU without an answer.
pub(crate) const WORKER_EXCEEDED_LIMITS: ErrorPage = ErrorPage {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: 1102,
    name: "worker_exceeded_resources",
    category: "worker",
    title: "Worker exceeded resource limits",
    what_happened: "The worker that answers this page used more CPU time or memory than it may.",
    what_to_do: "If you own this site, look for a loop that does not end in the code that answers this page.",
    retry_after_s: None,
};

/// No instance became free in time.
pub(crate) const WORKER_BUSY: ErrorPage = ErrorPage {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: 503,
    name: "worker_busy",
    category: "capacity",
    title: "Worker is busy",
    what_happened: "More requests are waiting for this site's worker than it can take.",
    what_to_do: "Try again in a few seconds.",
    retry_after_s: Some(5),
};

/// Engawa is shutting down.
pub(crate) const STOPPING: ErrorPage = ErrorPage {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: 503,
    name: "server_stopping",
    category: "capacity",
    title: "Server is shutting down",
    what_happened: "The server that answers this site is being stopped or restarted.",
    what_to_do: "Try again in a few seconds.",
    retry_after_s: Some(5),
};

impl ErrorPage {
    /// The page. `detail` is for the site's developer: it is given in development only.
    pub(crate) fn response(
        &self,
        host: &str,
        ray: &HeaderValue,
        request_headers: &HeaderMap,
        detail: Option<&str>,
    ) -> Response<Body> {
        let ray = ray.to_str().unwrap_or("");
        let form = Form::wanted(request_headers);
        let text = match form {
            Form::Html => self.html(host, ray, detail),
            Form::Json | Form::ProblemJson => self.json(host, ray, detail),
            Form::Markdown => self.markdown(host, ray, detail),
        };
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
        headers.insert(
            CACHE_CONTROL,
            HeaderValue::from_static(
                "private, max-age=0, no-store, no-cache, must-revalidate, post-check=0, pre-check=0",
            ),
        );
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }

    fn html(&self, host: &str, ray: &str, detail: Option<&str>) -> String {
        let mut body = format!(
            "<p>{}</p><h2>What can I do?</h2><p>{}</p>",
            self.what_happened, self.what_to_do
        );
        if let Some(detail) = detail {
            let _ = write!(body, "<pre>{}</pre>", escape_html(detail));
        }
        html_page(
            &format!("{} | {} | Engawa", self.title, escape_html(host)),
            &format!("Error {}", self.code),
            self.title,
            &body,
            &format!("Ray ID: {}", escape_html(ray)),
        )
    }

    fn json(&self, host: &str, ray: &str, detail: Option<&str>) -> String {
        let mut members = serde_json::json!({
            "type": "about:blank",
            "title": format!("Error {}: {}", self.code, self.title),
            "status": self.status.as_u16(),
            "detail": self.what_happened,
            "instance": ray,
            "error_code": self.code,
            "error_name": self.name,
            "error_category": self.category,
            "ray_id": ray,
            "timestamp": httpdate_now(),
            "zone": host,
            "cloudflare_error": true,
            "retryable": self.retry_after_s.is_some(),
            "owner_action_required": self.retry_after_s.is_none(),
            "what_you_should_do": self.what_to_do,
            "footer": "This error was made by Engawa.",
        });
        if let Some(members) = members.as_object_mut() {
            if let Some(seconds) = self.retry_after_s {
                members.insert("retry_after".to_owned(), seconds.into());
            }
            if let Some(detail) = detail {
                members.insert("exception".to_owned(), detail.into());
            }
        }
        members.to_string()
    }

    fn markdown(&self, host: &str, ray: &str, detail: Option<&str>) -> String {
        let mut text = format!(
            "---\nerror_code: {}\nerror_name: {}\nerror_category: {}\nstatus: {}\nray_id: {ray}\n\
             timestamp: {}\nzone: {host}\ncloudflare_error: true\nretryable: {}\n",
            self.code,
            self.name,
            self.category,
            self.status.as_u16(),
            httpdate_now(),
            self.retry_after_s.is_some(),
        );
        if let Some(seconds) = self.retry_after_s {
            let _ = writeln!(text, "retry_after: {seconds}");
        }
        let _ = write!(
            text,
            "---\n\n# Error {}: {}\n\n## What Happened\n\n{}\n\n",
            self.code, self.title, self.what_happened
        );
        if let Some(detail) = detail {
            // Indented, so that nothing in it can end a fence.
            for line in detail.lines() {
                let _ = writeln!(text, "    {line}");
            }
            text.push('\n');
        }
        let _ = write!(
            text,
            "## What You Should Do\n\n{}\n\n---\nThis error was made by Engawa. Ray ID: {ray}\n",
            self.what_to_do
        );
        text
    }
}

/// A page of ours, whole in one file.
pub(crate) fn html_page(title: &str, heading: &str, sub: &str, body: &str, footer: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head>\
         <body><main><h1>{heading}</h1><p class=\"sub\">{sub}</p>{body}\
         <footer>{footer}</footer></main></body></html>\n"
    )
}

const STYLE: &str = "body{margin:0;font:16px/1.5 system-ui,sans-serif;color:#222;background:#fafafa}\
main{max-width:44rem;margin:10vh auto;padding:0 1.25rem}h1{margin:0;font-weight:600}\
h2{font-size:1.1rem;margin:1.5rem 0 0}.sub{margin:.25rem 0 1.5rem;font-size:1.25rem;color:#666}\
pre{padding:1rem;overflow:auto;background:#1d1f24;color:#f3d9d9;border-radius:6px;font-size:.85rem}\
footer{margin-top:2rem;padding-top:1rem;border-top:1px solid #ddd;color:#777;font-size:.85rem}\
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#16181c}.sub,footer{color:#9a9a9a}\
footer{border-color:#333}}";

/// Text made safe inside an element or an attribute.
pub(crate) fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn httpdate_now() -> String {
    httpdate::fmt_http_date(std::time::SystemTime::now())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Html,
    Json,
    ProblemJson,
    Markdown,
}

impl Form {
    /// The form with the greatest weight, the first listed among equals.
    fn wanted(headers: &HeaderMap) -> Self {
        let mut best = (Self::Html, 0.0);
        for list in headers.get_all(ACCEPT) {
            for item in list.to_str().unwrap_or("").split(',') {
                let mut parts = item.split(';').map(str::trim);
                let form = match parts.next().unwrap_or("").to_ascii_lowercase().as_str() {
                    "application/json" => Self::Json,
                    "application/problem+json" => Self::ProblemJson,
                    "text/markdown" | "text/*" => Self::Markdown,
                    "text/html" | "*/*" => Self::Html,
                    _ => continue,
                };
                let weight = parts
                    .find_map(|part| part.strip_prefix("q="))
                    .map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0));
                if weight > best.1 {
                    best = (form, weight);
                }
            }
        }
        best.0
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=UTF-8",
            Self::Json => "application/json; charset=utf-8",
            Self::ProblemJson => "application/problem+json; charset=utf-8",
            Self::Markdown => "text/markdown; charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(accept: &'static str) -> Form {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        Form::wanted(&headers)
    }

    // docs: fundamentals/reference/error-responses; pages.md E23
    #[test]
    fn the_form_follows_accept() {
        assert_eq!(Form::wanted(&HeaderMap::new()), Form::Html);
        assert_eq!(wanted("application/json"), Form::Json);
        assert_eq!(wanted("text/markdown, application/json"), Form::Markdown);
        assert_eq!(wanted("text/markdown;q=0.5, application/json"), Form::Json);
        assert_eq!(wanted("application/problem+json"), Form::ProblemJson);
        assert_eq!(
            wanted("text/html,application/xhtml+xml,*/*;q=0.8"),
            Form::Html
        );
        assert_eq!(wanted("image/png"), Form::Html);
    }

    #[test]
    fn a_hostile_host_or_exception_is_no_markup() {
        let ray = HeaderValue::from_static("00-X");
        let page = WORKER_THREW.html("<b>", ray.to_str().unwrap(), Some("<script>"));
        assert!(!page.contains("<b>") && !page.contains("<script>"));
    }
}
