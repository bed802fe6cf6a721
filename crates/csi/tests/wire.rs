//! `proto/csi.proto` is the wire of CSI 1.13: every message, field, enum and call is compared with `wire.tsv`.

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto};
use std::collections::BTreeSet;

/// Rows as the table writes them: kind, owner, name, number, type, label, oneof.
type Rows = BTreeSet<[String; 7]>;

fn expected() -> Rows {
    let table = include_str!("wire.tsv");
    let rows = table.lines().skip(1).map(|line| {
        let mut cells = line.split('\t').map(str::to_owned);
        std::array::from_fn(|_| cells.next().unwrap_or_default())
    });
    rows.collect()
}

/// Without the package, or with that of the well-known types.
fn short(name: &str) -> String {
    let name = name.trim_start_matches('.');
    name.strip_prefix("csi.v1.").unwrap_or(name).to_owned()
}

fn kind_of(field: &FieldDescriptorProto, maps: &BTreeSet<String>) -> String {
    match field.r#type() {
        Type::String => "string".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Int32 => "int32".to_owned(),
        Type::Int64 => "int64".to_owned(),
        Type::Message if maps.contains(&short(field.type_name())) => {
            "map<string,string>".to_owned()
        }
        Type::Message | Type::Enum => short(field.type_name()),
        other => format!("{other:?}"),
    }
}

fn enumeration(one: &EnumDescriptorProto, owner: &str, rows: &mut Rows) {
    let owner = join(owner, one.name());
    for value in &one.value {
        let number = value.number().to_string();
        let cells = ["enum", &owner, value.name(), &number, "", "", ""];
        rows.insert(cells.map(str::to_owned));
    }
}

fn join(owner: &str, name: &str) -> String {
    if owner.is_empty() {
        return name.to_owned();
    }
    format!("{owner}.{name}")
}

fn message(one: &DescriptorProto, owner: &str, rows: &mut Rows) {
    let name = join(owner, one.name());
    let is_map = |nested: &&DescriptorProto| {
        nested
            .options
            .as_ref()
            .is_some_and(|options| options.map_entry())
    };
    let maps = one.nested_type.iter().filter(is_map);
    let maps: BTreeSet<String> = maps.map(|nested| join(&name, nested.name())).collect();
    for field in &one.field {
        let kind = kind_of(field, &maps);
        let repeated = field.label() == Label::Repeated && !kind.starts_with("map<");
        let oneof = field
            .oneof_index
            .map(|index| one.oneof_decl[index as usize].name());
        let number = field.number().to_string();
        let label = if repeated { "repeated" } else { "" };
        let cells = [
            "field",
            &name,
            field.name(),
            &number,
            &kind,
            label,
            oneof.unwrap_or_default(),
        ];
        rows.insert(cells.map(str::to_owned));
    }
    for nested in one.nested_type.iter().filter(|nested| !is_map(nested)) {
        message(nested, &name, rows);
    }
    for nested in &one.enum_type {
        enumeration(nested, &name, rows);
    }
}

#[test]
fn proto_is_the_wire_of_the_specification() {
    let set = protox::compile(["proto/csi.proto"], ["proto"]).expect("it compiles");
    let file = set
        .file
        .iter()
        .find(|file| file.package() == "csi.v1")
        .expect("the package");
    let mut rows = Rows::new();
    for service in &file.service {
        for call in &service.method {
            let stream = if call.server_streaming() {
                "stream "
            } else {
                ""
            };
            let kind = format!(
                "{} -> {stream}{}",
                short(call.input_type()),
                short(call.output_type())
            );
            let cells = ["rpc", service.name(), call.name(), "", &kind, "", ""];
            rows.insert(cells.map(str::to_owned));
        }
    }
    for one in &file.message_type {
        message(one, "", &mut rows);
    }
    for one in &file.enum_type {
        enumeration(one, "", &mut rows);
    }
    let expected = expected();
    let lacking: Vec<_> = expected.difference(&rows).collect();
    let beyond: Vec<_> = rows.difference(&expected).collect();
    assert!(expected.len() > 250, "the table is read");
    assert_eq!((lacking, beyond), (Vec::new(), Vec::new()));
}
