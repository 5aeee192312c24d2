//! Paths to calls.
//!
//! Paths are matched as they came, a segment at a time, and each segment is decoded once:
//! a KV key may hold an encoded `/` (control-plane-api.md 2.4). R2 keys come with their
//! slashes bare, so they take the rest of the path. Empty segments at the front are
//! skipped, since a base URL with a trailing slash doubles one.

use engawa_model::AccountId;
use http::Method;
use percent_encoding::percent_decode_str;

use crate::error::ApiError;

/// A call that is known, and the account that it names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) account: AccountId,
    pub(crate) product: Product,
}

/// Whose numbers an error speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProductName {
    D1,
    Kv,
    R2,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Product {
    D1(D1Call),
    Kv(KvCall),
    R2(R2Call),
    Deployments(DeploymentsCall),
}

/// Calls that Cloudflare does not have: the deployments that `engawa dev` keeps.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DeploymentsCall {
    List,
    Get(String),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum D1Call {
    List,
    Create,
    Get(String),
    Delete(String),
    Query(String),
    Raw(String),
    Import(String),
    Export(String),
    /// The bookmark of a moment.
    TimeTravelBookmark(String),
    TimeTravelRestore(String),
    /// The file of an import.
    Upload(String, String),
    /// The file of an export.
    Download(String, String),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KvCall {
    List,
    Create,
    Get(String),
    Rename(String),
    Delete(String),
    Keys(String),
    GetValue(String, String),
    PutValue(String, String),
    DeleteValue(String, String),
    Metadata(String, String),
    BulkPut(String),
    BulkDelete(String),
    BulkGet(String),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum R2Call {
    List,
    Create,
    Get(String),
    Update(String),
    Delete(String),
    Objects(String),
    GetObject(String, String),
    PutObject(String, String),
    DeleteObject(String, String),
    GetLifecycle(String),
    PutLifecycle(String),
    GetCors(String),
    PutCors(String),
    DeleteCors(String),
}

/// What a request asks for.
pub(crate) fn find(method: &Method, path: &str) -> Result<Route, ApiError> {
    let no_route = || ApiError::no_route(path);
    let rest = path.trim_start_matches('/');
    let (rest, account) = rest
        .strip_prefix("client/v4/")
        .map(|rest| rest.trim_start_matches('/'))
        .and_then(|rest| rest.strip_prefix("accounts/"))
        .and_then(|rest| rest.split_once('/'))
        .map(|(account, rest)| (rest, account))
        .ok_or_else(no_route)?;
    let account = AccountId::new(decode(account)?);
    let product = if let Some(rest) = below(rest, "d1/database") {
        d1(method, rest)?.map(Product::D1)
    } else if let Some(rest) = below(rest, "storage/kv/namespaces") {
        kv(method, rest)?.map(Product::Kv)
    } else if let Some(rest) = below(rest, "r2/buckets") {
        r2(method, rest)?.map(Product::R2)
    } else if let Some(rest) = below(rest, "engawa/deployments") {
        deployments(method, rest)?.map(Product::Deployments)
    } else {
        return Err(no_route());
    };
    let product = product.ok_or_else(no_route)?;
    Ok(Route { account, product })
}

/// What follows a prefix of whole segments.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    if rest.is_empty() {
        return Some(rest);
    }
    rest.strip_prefix('/')
}

fn d1(method: &Method, rest: &str) -> Result<Option<D1Call>, ApiError> {
    let segments: Vec<&str> = rest.split('/').collect();
    Ok(Some(match (segments.as_slice(), method.as_str()) {
        ([""], "GET") => D1Call::List,
        ([""], "POST") => D1Call::Create,
        ([id], "GET") => D1Call::Get(decode(id)?),
        ([id], "DELETE") => D1Call::Delete(decode(id)?),
        ([id, "query"], "POST") => D1Call::Query(decode(id)?),
        ([id, "raw"], "POST") => D1Call::Raw(decode(id)?),
        ([id, "import"], "POST") => D1Call::Import(decode(id)?),
        ([id, "export"], "POST") => D1Call::Export(decode(id)?),
        ([id, "import", file], "PUT") => D1Call::Upload(decode(id)?, decode(file)?),
        ([id, "export", file], "GET") => D1Call::Download(decode(id)?, decode(file)?),
        ([id, "time_travel", "bookmark"], "GET") => D1Call::TimeTravelBookmark(decode(id)?),
        ([id, "time_travel", "restore"], "POST") => D1Call::TimeTravelRestore(decode(id)?),
        (
            [_]
            | [_, "query" | "raw" | "import" | "export"]
            | [_, "import" | "export", _]
            | [_, "time_travel", "bookmark" | "restore"],
            _,
        ) => {
            return Err(ApiError::no_method(method));
        }
        _ => return Ok(None),
    }))
}

fn kv(method: &Method, rest: &str) -> Result<Option<KvCall>, ApiError> {
    // Everything behind `values/` is the key, should a client leave its slashes bare.
    let segments: Vec<&str> = rest.splitn(3, '/').collect();
    let two = |make: fn(String, String) -> KvCall, id: &str, key: &str| {
        Ok::<_, ApiError>(make(decode(id)?, decode(key)?))
    };
    Ok(Some(match (segments.as_slice(), method.as_str()) {
        ([""], "GET") => KvCall::List,
        ([""], "POST") => KvCall::Create,
        ([id], "GET") => KvCall::Get(decode(id)?),
        ([id], "PUT") => KvCall::Rename(decode(id)?),
        ([id], "DELETE") => KvCall::Delete(decode(id)?),
        ([id, "keys"], "GET") => KvCall::Keys(decode(id)?),
        ([id, "values", key], "GET") => two(KvCall::GetValue, id, key)?,
        ([id, "values", key], "PUT") => two(KvCall::PutValue, id, key)?,
        ([id, "values", key], "DELETE") => two(KvCall::DeleteValue, id, key)?,
        ([id, "metadata", key], "GET") => two(KvCall::Metadata, id, key)?,
        ([id, "bulk"], "PUT") => KvCall::BulkPut(decode(id)?),
        ([id, "bulk"], "DELETE") | ([id, "bulk", "delete"], "POST") => {
            KvCall::BulkDelete(decode(id)?)
        }
        ([id, "bulk", "get"], "POST") => KvCall::BulkGet(decode(id)?),
        (
            [_]
            | [_, "keys" | "bulk"]
            | [_, "values" | "metadata", _]
            | [_, "bulk", "get" | "delete"],
            _,
        ) => return Err(ApiError::no_method(method)),
        _ => return Ok(None),
    }))
}

fn r2(method: &Method, rest: &str) -> Result<Option<R2Call>, ApiError> {
    let segments: Vec<&str> = rest.splitn(3, '/').collect();
    let two = |make: fn(String, String) -> R2Call, bucket: &str, key: &str| {
        Ok::<_, ApiError>(make(decode(bucket)?, decode(key)?))
    };
    Ok(Some(match (segments.as_slice(), method.as_str()) {
        ([""], "GET") => R2Call::List,
        ([""], "POST") => R2Call::Create,
        ([bucket], "GET") => R2Call::Get(decode(bucket)?),
        ([bucket], "PATCH") => R2Call::Update(decode(bucket)?),
        ([bucket], "DELETE") => R2Call::Delete(decode(bucket)?),
        ([bucket, "objects"], "GET") => R2Call::Objects(decode(bucket)?),
        ([bucket, "objects", key], "GET") => two(R2Call::GetObject, bucket, key)?,
        ([bucket, "objects", key], "PUT") => two(R2Call::PutObject, bucket, key)?,
        ([bucket, "objects", key], "DELETE") => two(R2Call::DeleteObject, bucket, key)?,
        ([bucket, "lifecycle"], "GET") => R2Call::GetLifecycle(decode(bucket)?),
        ([bucket, "lifecycle"], "PUT") => R2Call::PutLifecycle(decode(bucket)?),
        ([bucket, "cors"], "GET") => R2Call::GetCors(decode(bucket)?),
        ([bucket, "cors"], "PUT") => R2Call::PutCors(decode(bucket)?),
        ([bucket, "cors"], "DELETE") => R2Call::DeleteCors(decode(bucket)?),
        ([_] | [_, "objects" | "lifecycle" | "cors"] | [_, "objects", _], _) => {
            return Err(ApiError::no_method(method));
        }
        _ => return Ok(None),
    }))
}

fn deployments(method: &Method, rest: &str) -> Result<Option<DeploymentsCall>, ApiError> {
    match (rest, method.as_str()) {
        ("", "GET") => Ok(Some(DeploymentsCall::List)),
        (id, "GET") if !id.contains('/') => Ok(Some(DeploymentsCall::Get(decode(id)?))),
        (id, _) if !id.contains('/') => Err(ApiError::no_method(method)),
        _ => Ok(None),
    }
}

fn decode(segment: &str) -> Result<String, ApiError> {
    percent_decode_str(segment)
        .decode_utf8()
        .map(String::from)
        .map_err(|_| ApiError::malformed(format!("The path segment {segment} is not UTF-8.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(method: &str, path: &str) -> Result<Product, u32> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let path = format!("/client/v4/accounts/local/{path}");
        find(&method, &path)
            .map(|route| route.product)
            .map_err(|error| error.code)
    }

    // control-plane-api.md 2.4
    #[test]
    fn keys_are_decoded_once() {
        assert_eq!(
            product("GET", "storage/kv/namespaces/ns/values/a%2Fb%20c%2525"),
            Ok(Product::Kv(KvCall::GetValue(
                "ns".into(),
                "a/b c%25".into()
            )))
        );
        assert_eq!(
            product("PUT", "r2/buckets/b/objects/dir/a%20b//c"),
            Ok(Product::R2(R2Call::PutObject(
                "b".into(),
                "dir/a b//c".into()
            )))
        );
        assert_eq!(
            product("POST", "d1/database/my%2F%20Database/query"),
            Ok(Product::D1(D1Call::Query("my/ Database".into())))
        );
    }

    // control-plane-api.md 15: "Unknown routes: 404 with an error envelope (7003)"
    #[test]
    fn an_unknown_path_and_an_unknown_method_differ() {
        for path in [
            "d1",
            "d1/databases",
            "queues",
            "d1/database/x/nope",
            "r2/buckets/b/sippy",
        ] {
            assert_eq!(product("GET", path), Err(7003), "{path}");
        }
        for path in [
            "d1/database/x/query",
            "r2/buckets/b/objects/k?",
            "storage/kv/namespaces/n",
        ] {
            assert_eq!(product("PATCH", path), Err(7001), "{path}");
        }
        let outside = find(&Method::GET, "/client/v4/user").unwrap_err();
        assert_eq!(outside.code, 7003);
    }

    // control-plane-api.md 1.1: a base URL with a trailing slash
    #[test]
    fn a_doubled_slash_at_the_front_is_no_matter() {
        for path in [
            "//client/v4/accounts/a/d1/database",
            "/client/v4//accounts/a/d1/database",
        ] {
            let route = find(&Method::GET, path).unwrap();
            assert_eq!(route.account.as_str(), "a");
            assert_eq!(route.product, Product::D1(D1Call::List));
        }
    }
}
