//! The fields of a message for people and for programs.

use std::fmt::Write;

use mikey_sakke::codec::Field;
use serde_json::{Value, json};

/// Octets shown of a long field.
const SHOWN: usize = 24;

/// One line a field: offset, length, name indented by depth, octets, meaning.
pub(super) fn table(fields: &[Field], octets: &[u8], show_key: bool) -> String {
    let mut out = String::new();
    lines(&mut out, fields, octets, show_key, 0);
    out
}

fn lines(out: &mut String, fields: &[Field], octets: &[u8], show_key: bool, depth: usize) {
    for field in fields {
        let name = format!("{:1$}{2}", "", 2 * depth, field.name);
        let value = if field.children.is_empty() { value(field, octets, show_key) } else { String::new() };
        // Writing to a string does not fail.
        let _ = write!(out, "{:>5} {:>5}  {name:<44}", field.offset, field.length);
        let _ = match (value.is_empty(), field.meaning.is_empty()) {
            (true, true) => writeln!(out),
            (false, true) => writeln!(out, "  {value}"),
            (true, false) => writeln!(out, "  {}", field.meaning),
            (false, false) => writeln!(out, "  {value}  {}", field.meaning),
        };
        lines(out, &field.children, octets, show_key, depth + 1);
    }
    if depth == 0 {
        *out = out.lines().map(|l| l.trim_end().to_owned() + "\n").collect();
    }
}

fn value(field: &Field, octets: &[u8], show_key: bool) -> String {
    if field.secret && !show_key {
        return "(key)".to_owned();
    }
    let octets = of(field, octets);
    match octets.get(..SHOWN) {
        Some(head) if octets.len() > SHOWN => format!("{}...", hex::encode(head)),
        _ => hex::encode(octets),
    }
}

fn of<'a>(field: &Field, octets: &'a [u8]) -> &'a [u8] {
    octets.get(field.offset..).and_then(|o| o.get(..field.length)).unwrap_or_default()
}

/// The same as nested objects, with all octets.
pub(super) fn json(fields: &[Field], octets: &[u8], show_key: bool) -> Value {
    let one = |f: &Field| {
        let mut v = json!({ "name": f.name, "offset": f.offset, "length": f.length });
        if !f.meaning.is_empty() {
            v["meaning"] = json!(f.meaning);
        }
        if !f.children.is_empty() {
            v["fields"] = json(&f.children, octets, show_key);
        } else if !f.secret || show_key {
            v["octets"] = json!(hex::encode(of(f, octets)));
        }
        v
    };
    fields.iter().map(one).collect()
}
