//! The pages: files that were built from `ui` and put into the program by `build.rs`.
//!
//! They are shown to everybody, for they hold nothing but code: what they show they ask the API for. A path that is no file is
//! a page's own, and gets the one document there is. `NAME.gz` beside `NAME` is the same file compressed.

use crate::reply::no_such_path;
use axum::body::Bytes;
use axum::http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

/// Name and content.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// The document that every page is.
const DOCUMENT: &str = "index.html";
/// Files below it have a hash of their content in their names.
const HASHED: &str = "assets/";

/// What is shown when the pages were not built.
const NOT_BUILT: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>Azekura</title>
<style>body { font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em }</style>
<h1>Azekura</h1>
<p>This program was built without its web pages. With Node.js 20.19 or newer on the machine that builds it:</p>
<pre>cargo xtask ui
cargo build --release --package azekura</pre>
<p>Everything else works: the API is below <code>/api/v1</code>, described by
<a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a>, and the command line is <code>azekura --help</code>.</p>
</html>
";

/// Serves what is at a path that the API does not have.
pub(crate) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    let looks = method == Method::GET || method == Method::HEAD;
    if !looks || path == "api" || path.starts_with("api/") {
        return no_such_path(uri).await;
    }
    if let Some(found) = file(FILES, path, &headers) {
        return found;
    }
    if path.starts_with(HASHED) {
        return (StatusCode::NOT_FOUND, "no such file; reload the page\n").into_response();
    }
    let document = file(FILES, DOCUMENT, &headers);
    document.unwrap_or_else(|| {
        ([(CONTENT_TYPE, "text/html; charset=utf-8")], NOT_BUILT).into_response()
    })
}

fn content(files: &'static [(&str, &[u8])], name: &str) -> Option<&'static [u8]> {
    let found = files.iter().find(|(file, _)| *file == name);
    found.map(|(_, content)| *content)
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "json" => "application/json",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let value = headers.get(ACCEPT_ENCODING);
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or("");
    let mut codings = text.split(',').map(str::trim);
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && weight.trim() != "q=0"
    })
}

fn file(files: &'static [(&str, &[u8])], name: &str, headers: &HeaderMap) -> Option<Response> {
    let plain = content(files, name)?;
    let packed = content(files, &format!("{name}.gz")).filter(|_| takes_gzip(headers));
    let mut response = Bytes::from_static(packed.unwrap_or(plain)).into_response();
    let answer = response.headers_mut();
    answer.insert(CONTENT_TYPE, HeaderValue::from_static(media_type(name)));
    let keep = match name.starts_with(HASHED) {
        true => "public, max-age=31536000, immutable",
        false => "no-cache",
    };
    answer.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
    answer.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if packed.is_some() {
        answer.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    static SOME: &[(&str, &[u8])] = &[
        ("assets/a-1.js", b"long"),
        ("assets/a-1.js.gz", b"short"),
        ("index.html", b"page"),
    ];

    #[test]
    fn files_have_their_type_and_are_compressed_for_those_who_take_it() {
        let mut headers = HeaderMap::new();
        let found = file(SOME, "assets/a-1.js", &headers).unwrap();
        assert_eq!(
            found.headers()[CONTENT_TYPE],
            "text/javascript; charset=utf-8"
        );
        assert!(found.headers().get(CONTENT_ENCODING).is_none());
        assert!(
            found.headers()[CACHE_CONTROL]
                .to_str()
                .unwrap()
                .contains("immutable")
        );
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("br, gzip;q=1.0"));
        let found = file(SOME, "assets/a-1.js", &headers).unwrap();
        assert_eq!(found.headers()[CONTENT_ENCODING], "gzip");
        let found = file(SOME, "index.html", &headers).unwrap();
        assert!(found.headers().get(CONTENT_ENCODING).is_none());
        assert_eq!(found.headers()[CACHE_CONTROL], "no-cache");
        assert!(file(SOME, "assets/../index.html", &headers).is_none());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip;q=0"));
        assert!(!takes_gzip(&headers));
    }
}
