//! The schemas themselves: documented, and compatible with every released version.

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use serde_json::Value;

use super::super::{RELEASED, RecordKind};
use super::schema;

fn each_definition(schema: &Value, visit: &mut impl FnMut(&Value)) {
    match schema {
        Value::Array(branches) => branches.iter().for_each(|branch| each_definition(branch, visit)),
        Value::Object(members) => {
            visit(schema);
            for inner in ["type", "items", "values"] {
                members.get(inner).into_iter().for_each(|inner| each_definition(inner, visit));
            }
            for field in members.get("fields").and_then(Value::as_array).into_iter().flatten() {
                each_definition(field, visit);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_record_field_and_enum_has_a_doc_and_what_is_optional_is_null_at_first() {
    for kind in RecordKind::ALL {
        let schema: Value = serde_json::from_str(kind.schema_text()).unwrap();
        assert_eq!(
            format!(
                "{}.{}",
                schema["namespace"].as_str().unwrap(),
                schema["name"].as_str().unwrap()
            ),
            kind.full_name()
        );
        let mut seen = 0;
        each_definition(&schema, &mut |part| {
            if part.get("name").is_some() {
                seen += 1;
                let doc = part.get("doc").and_then(Value::as_str).unwrap_or_default();
                assert!(doc.ends_with('.'), "{kind}: {} has no doc", part["name"]);
            }
            if part["type"] == "enum" {
                let symbols = part["symbols"].as_array().unwrap();
                assert!(symbols.contains(&part["default"]), "{kind}: {}", part["name"]);
            }
            if part["type"].is_array() {
                assert_eq!(part["type"][0], "null", "{kind}: {}", part["name"]);
                assert!(
                    part.get("default").is_some_and(Value::is_null),
                    "{kind}: {}",
                    part["name"]
                );
            }
        });
        assert!(seen > 5, "{kind}");
    }
}

#[test]
fn every_released_version_reads_the_present_one_and_is_read_by_it() {
    for (kind, text) in RELEASED {
        let released = Schema::parse_str(text).unwrap();
        let compatible = SchemaCompatibility::mutual_read(&released, &schema(kind));
        assert_eq!(compatible, Ok(Compatibility::Full), "{kind}");
    }
    let changed = RecordKind::Gap.schema_text().replace(
        r#""reconciled", "type": "boolean", "default": false"#,
        r#""settled", "type": "boolean""#,
    );
    let changed = Schema::parse_str(&changed).unwrap();
    assert!(SchemaCompatibility::mutual_read(&changed, &schema(RecordKind::Gap)).is_err());
}

#[test]
fn every_released_file_is_built_in() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/released");
    let mut files = 0;
    for version in std::fs::read_dir(root).unwrap() {
        for file in std::fs::read_dir(version.unwrap().path()).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            assert!(RELEASED.iter().any(|(_, released)| *released == text));
            files += 1;
        }
    }
    assert_eq!(files, RELEASED.len());
}
