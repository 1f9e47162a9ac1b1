//! The live chat page: one HTML document with its style and script inside, so that a single answer is the whole page
//! and nothing is loaded from elsewhere.
//!
//! The content security policy names the style and the script by their hashes, so that nothing else that might get
//! into the page runs.

use node_core::ws::handshake::Page;

/// The policy, which the public port sends in a header. The hashes are of the inline style and script (a test gives the right
/// ones after a change). `connect-src 'self'` covers the WebSocket of the same host.
const CSP: &str = "default-src 'none'; style-src 'sha256-ttxeFAtDoaJUSLXlRmfEsn7I5nI7+KH/Lmekal+r1V8='; \
    script-src 'sha256-hbLGNWW337NBE+xbWGfMHEBrJKrwb7F5FLbmHlJegrI='; img-src data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

const STYLE: &str = include_str!("chat.css");
/// A module runs in strict mode, after the document is there, and keeps its names to itself.
const SCRIPT: &str = concat!(include_str!("phoenix.js"), include_str!("chat.js"));
const BODY: &str = include_str!("body.html");
const START: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
"#;
const HEAD: &str = r#"<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ChannelCluster</title>
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='7' fill='%230b6bcb'/%3E%3C/svg%3E">
"#;

/// The page for a socket mounted at `path`, which the configuration's check has found harmless in HTML.
pub fn page(path: &str) -> Page<'static> {
    let socket = format!("<meta name=\"socket-path\" content=\"{path}\">\n");
    let parts = [
        START,
        HEAD,
        &socket,
        "<style>",
        STYLE,
        "</style>\n</head>\n<body>\n",
        BODY,
        "<script type=\"module\">",
        SCRIPT,
        "</script>\n</body>\n</html>\n",
    ];
    // There is one page for as long as the process runs.
    Page { html: parts.concat().into_bytes().leak(), policy: CSP }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_policy_names_this_style_and_this_script() {
        for (directive, text) in [("style-src", STYLE), ("script-src", SCRIPT)] {
            let hash = STANDARD.encode(Sha256::digest(text));
            assert!(
                CSP.contains(&format!("{directive} 'sha256-{hash}'")),
                "CSP: write {directive} 'sha256-{hash}'"
            );
        }
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere_and_nothing_ends_the_inline_parts_early() {
        let page = String::from_utf8(page("/a/b").html.to_vec()).unwrap();
        assert!(page.contains("<meta name=\"socket-path\" content=\"/a/b\">"));
        assert_eq!(page.matches("</script").count(), 1);
        assert_eq!(page.matches("</style").count(), 1);
        let addresses: Vec<_> = page.match_indices("://").map(|(at, _)| &page[at..at + 20]).collect();
        assert!(addresses.iter().all(|text| text.starts_with("://www.w3.org/2000/s")), "{addresses:?}");
        for forbidden in
            ["innerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=", " onclick="]
        {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }
}
