//! Just enough of Rust's grammar to measure source: comments and strings blanked out, braces matched.

/// A function found in a file.
pub struct Function {
    pub name: String,
    /// One-based.
    pub line: usize,
    /// Lines from its opening to its closing brace.
    pub lines: usize,
    pub in_test: bool,
}

/// Replaces comments, strings and character literals by spaces; line breaks stay, so lines keep their numbers.
pub fn mask(source: &str) -> Vec<u8> {
    let text = source.as_bytes();
    let mut out = text.to_vec();
    let mut at = 0;
    while at < text.len() {
        let end = end_of_opaque(text, at);
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    out
}

/// The end of the comment or literal that starts at `at`; `at` itself when none does.
fn end_of_opaque(text: &[u8], at: usize) -> usize {
    let rest = &text[at..];
    let in_word = at > 0 && is_word(text[at - 1]);
    match rest {
        [b'/', b'/', ..] => at + position(rest, b"\n").unwrap_or(rest.len()),
        [b'/', b'*', ..] => end_of_block_comment(text, at),
        [b'"', ..] => end_of_string(text, at + 1),
        [b'b' | b'c', b'"', ..] if !in_word => end_of_string(text, at + 2),
        [b'r', b'"' | b'#', ..] if !in_word => end_of_raw(text, at, at + 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !in_word => end_of_raw(text, at, at + 2),
        [b'\'', ..] => end_of_character(text, at),
        _ => at,
    }
}

fn end_of_block_comment(text: &[u8], start: usize) -> usize {
    let mut depth = 0_u32;
    let mut at = start;
    while at + 1 < text.len() {
        match &text[at..at + 2] {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    text.len()
}

fn end_of_string(text: &[u8], mut at: usize) -> usize {
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// `hashes` is where the hashes of `r##"` start. A raw identifier (`r#type`) is no string.
fn end_of_raw(text: &[u8], start: usize, hashes: usize) -> usize {
    let count = text[hashes..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    if text.get(hashes + count) != Some(&b'"') {
        return start;
    }
    let body = hashes + count + 1;
    let mut closing = vec![b'"'];
    closing.extend(std::iter::repeat_n(b'#', count));
    position(&text[body..], &closing).map_or(text.len(), |found| body + found + closing.len())
}

/// A lifetime (`'a`) is no literal: there the second character is not followed by a quote.
fn end_of_character(text: &[u8], at: usize) -> usize {
    if text.get(at + 1) == Some(&b'\\') {
        let from = (at + 3).min(text.len());
        return position(&text[from..], b"'").map_or(text.len(), |found| from + found + 1);
    }
    // A character takes one to four bytes.
    let window = &text[at + 1..text.len().min(at + 6)];
    match position(window, b"'") {
        Some(1) => at + 3,
        Some(bytes) if bytes > 1 && !window[0].is_ascii() => at + bytes + 2,
        _ => at,
    }
}

fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len())
        .position(|window| window == wanted)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// One-based line of a position.
fn line_of(text: &[u8], at: usize) -> usize {
    1 + text[..at].iter().filter(|byte| **byte == b'\n').count()
}

/// The position after the brace that closes the one at `open`.
fn closing_brace(text: &[u8], open: usize) -> usize {
    let mut depth = 0_u32;
    for (at, byte) in text.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// Where an item's body opens, or none if it ends with `;` first. Brackets on the way are skipped.
fn body_of(text: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (at, byte) in text.iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The spans of items under `#[cfg(test)]` in masked text.
pub fn test_spans(masked: &[u8]) -> Vec<(usize, usize)> {
    let marker = b"#[cfg(test)]";
    let mut spans = Vec::new();
    let mut from = 0;
    while let Some(found) = position(&masked[from..], marker) {
        let start = from + found;
        let after = start + marker.len();
        let end = body_of(masked, after).map_or(after, |open| closing_brace(masked, open));
        spans.push((start, end));
        from = end;
    }
    spans
}

/// Lines of a file outside `#[cfg(test)]` items.
pub fn lines_without_tests(masked: &[u8]) -> usize {
    let in_tests: usize = test_spans(masked)
        .iter()
        .map(|(a, b)| line_of(masked, *b) - line_of(masked, *a) + 1)
        .sum();
    line_of(masked, masked.len()).saturating_sub(1 + in_tests)
}

/// Every function with a body, nested ones and methods included.
pub fn functions(masked: &[u8]) -> Vec<Function> {
    let tests = test_spans(masked);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(offset) = position(&masked[at..], b"fn ") {
        let start = at + offset;
        at = start + 3;
        let name: Vec<u8> = masked[at..]
            .iter()
            .copied()
            .take_while(|byte| is_word(*byte))
            .collect();
        let in_word = start > 0 && is_word(masked[start - 1]);
        if in_word || name.is_empty() {
            continue;
        }
        let Some(open) = body_of(masked, at) else {
            continue;
        };
        let close = closing_brace(masked, open);
        found.push(Function {
            name: String::from_utf8_lossy(&name).into_owned(),
            line: line_of(masked, start),
            lines: line_of(masked, close) - line_of(masked, open) + 1,
            in_test: tests.iter().any(|(a, b)| (*a..*b).contains(&start)),
        });
    }
    found
}

/// One-based lines on which `wanted` stands in masked text.
pub fn lines_with(masked: &[u8], wanted: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    let mut from = 0;
    while let Some(found) = position(&masked[from..], wanted.as_bytes()) {
        lines.push(line_of(masked, from + found));
        from += found + wanted.len();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_in_strings_comments_and_characters_do_not_count() {
        let source = "fn a<'x>(t: &'x str) -> [u8; 2] {\n  let _ = (\"{\", '{', '\\'', b'}', r#\"}\"}\"#); \
                      // }\n  /* { /* { */ */\n  ['a' as u8, 1]\n}\nfn b() { }\n";
        let functions = functions(&mask(source));
        let sizes: Vec<_> = functions
            .iter()
            .map(|f| (f.name.as_str(), f.line, f.lines))
            .collect();
        assert_eq!(sizes, [("a", 1, 5), ("b", 6, 1)]);
    }

    #[test]
    fn pointers_and_declarations_are_no_functions() {
        let functions = functions(&mask(
            "type F = fn (u8); trait T { fn a(&self); }\nfn b() {}\n",
        ));
        assert_eq!(functions.len(), 1);
        assert_eq!(functions[0].line, 2);
    }

    #[test]
    fn test_modules_do_not_count_as_lines() {
        let source = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
        let masked = mask(source);
        assert_eq!(lines_without_tests(&masked), 2);
        assert!(functions(&masked)[1].in_test);
    }
}
