//! Where in the text of a configuration something is: its line, and the path of its key.

use super::parse_name;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The line of an offset, counted from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let end = offset.min(text.len());
    text.as_bytes()[..end]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}

/// The path of the innermost key whose value, or whose name, covers `span`. In a file that is not TOML
/// only the name at `span` itself can be told.
pub(super) fn key_at(text: &str, span: &Range<usize>) -> String {
    let Ok(table) = DeTable::parse(text) else {
        let named = text.get(span.clone()).map(parse_name);
        return named.and_then(Result::ok).unwrap_or_default();
    };
    let mut path = String::new();
    descend_table(table.get_ref(), span, &mut path);
    path
}

fn covers(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// Appends the key below `table` that covers `span`, and those below it. Returns whether there is one.
fn descend_table(table: &DeTable<'_>, span: &Range<usize>, path: &mut String) -> bool {
    for (key, value) in table {
        let length = path.len();
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key.get_ref());
        let below = descend(value, span, path);
        if below || covers(&key.span(), span) || covers(&value.span(), span) {
            return true;
        }
        path.truncate(length);
    }
    false
}

fn descend(value: &Spanned<DeValue<'_>>, span: &Range<usize>, path: &mut String) -> bool {
    match value.get_ref() {
        DeValue::Table(table) => descend_table(table, span, path),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let length = path.len();
                path.push_str(&format!("[{index}]"));
                if descend(item, span, path) || covers(&item.span(), span) {
                    return true;
                }
                path.truncate(length);
            }
            false
        }
        _ => false,
    }
}
