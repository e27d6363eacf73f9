//! Tables of devices: CSV and JSON, read and written row by row, so that a table may be larger than memory.

use std::fmt;
use std::io::{BufRead, BufReader, Read};

use imlink_protocol::id::check_device_id;
use imlink_protocol::key_pair::PublicKey;
use imlink_route::http::{DeviceView, NewDevice, ProofName};
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::cli::TableFormat;

/// One device of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Columns")]
pub(super) struct Row {
    pub(super) id: String,
    proof: ProofName,
    public_key: Option<String>,
    next_public_key: Option<String>,
    revoked: Option<bool>,
}

/// A row as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Columns {
    id: String,
    #[serde(default)]
    proof: Option<ProofName>,
    #[serde(default)]
    public_key: Option<String>,
    #[serde(default)]
    next_public_key: Option<String>,
    #[serde(default)]
    revoked: Option<bool>,
}

impl TryFrom<Columns> for Row {
    type Error = String;

    fn try_from(columns: Columns) -> Result<Self, String> {
        let Columns { id, proof, public_key, next_public_key, revoked } = columns;
        check_device_id(&id).map_err(|why| format!("column id: `{id}` {why}"))?;
        let key = |column: &str, key: &Option<String>| match key {
            Some(text) => text.parse::<PublicKey>().map(drop).map_err(|why| format!("column {column} {why}")),
            None => Ok(()),
        };
        key("public_key", &public_key)?;
        key("next_public_key", &next_public_key)?;
        let proof = match (proof, &public_key, &next_public_key) {
            (Some(ProofName::Plain), None, None) => ProofName::Plain,
            (Some(ProofName::PublicKey) | None, Some(_), _) => ProofName::PublicKey,
            (Some(ProofName::Plain), ..) => return Err("column proof is plain, but there is a public key".into()),
            (Some(ProofName::PublicKey), None, _) => return Err("column public_key is empty".into()),
            (None, None, _) => return Err("column public_key is empty; a device without a key has proof plain".into()),
        };
        Ok(Self { id, proof, public_key, next_public_key, revoked })
    }
}

impl Row {
    /// The row of a device that is there.
    pub(super) fn of(view: DeviceView) -> Self {
        let proof = if view.public_key.is_some() { ProofName::PublicKey } else { ProofName::Plain };
        let DeviceView { id, public_key, next_public_key, revoked, .. } = view;
        Self { id, proof, public_key, next_public_key, revoked: Some(revoked) }
    }

    /// What provisions it.
    pub(super) fn into_device(self) -> NewDevice {
        let Self { proof, public_key, next_public_key, revoked, .. } = self;
        NewDevice { proof: Some(proof), public_key, next_public_key, revoked }
    }
}

/// Longest line of JSON, in bytes; a device takes at most some 300.
const LINE_LEN_MAX: u64 = 64 * 1024;

/// Reads every row of `table` into `take` until that answers false. An error names line and column.
pub(super) fn read(table: impl Read, format: TableFormat, take: impl FnMut(Row) -> bool) -> anyhow::Result<()> {
    match format {
        TableFormat::Csv => read_csv(table, take),
        TableFormat::Json => read_json(table, take),
    }
}

fn read_csv(table: impl Read, mut take: impl FnMut(Row) -> bool) -> anyhow::Result<()> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(table);
    let headers = reader.headers().map_err(|error| located(&error, None))?.clone();
    anyhow::ensure!(
        headers.iter().any(|name| name == "id"),
        "line 1: the header names no column id; expected id,proof,public_key,next_public_key,revoked"
    );
    for row in reader.deserialize() {
        if !take(row.map_err(|error| located(&error, Some(&headers)))?) {
            break;
        }
    }
    Ok(())
}

fn located(error: &csv::Error, headers: Option<&csv::StringRecord>) -> anyhow::Error {
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => {
            let column = err.field().and_then(|at| headers?.get(usize::try_from(at).ok()?));
            let column = column.map_or(String::new(), |name| format!("column {name}: "));
            anyhow::anyhow!("line {line}: {column}{}", err.kind())
        }
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            anyhow::anyhow!("line {line}: {len} columns, the header names {expected_len}")
        }
        csv::ErrorKind::Utf8 { err, .. } => anyhow::anyhow!("line {line}: column {}: not UTF-8", err.field() + 1),
        _ => anyhow::anyhow!("line {line}: {error}"),
    }
}

fn read_json(table: impl Read, mut take: impl FnMut(Row) -> bool) -> anyhow::Result<()> {
    let mut table = BufReader::new(table);
    let named = |error: serde_json::Error| anyhow::anyhow!("{error}");
    if first_byte(&mut table)? == Some(b'[') {
        let mut deserializer = serde_json::Deserializer::from_reader(table);
        deserializer.deserialize_seq(Array(&mut take)).map_err(named)?;
        return deserializer.end().map_err(named);
    }
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        if (&mut table).take(LINE_LEN_MAX).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        anyhow::ensure!(
            line.ends_with(b"\n") || (line.len() as u64) < LINE_LEN_MAX,
            "line {number}: longer than {LINE_LEN_MAX} bytes; one object a line is expected, or an array of them"
        );
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let row = serde_json::from_slice(&line);
        if !take(row.map_err(|error| in_line(number, &error))?) {
            break;
        }
    }
    Ok(())
}

fn in_line(number: u64, error: &serde_json::Error) -> anyhow::Error {
    let text = error.to_string();
    match text.strip_suffix(&format!(" at line {} column {}", error.line(), error.column())) {
        Some(what) => anyhow::anyhow!("line {number}, column {}: {what}", error.column()),
        // Of the whole object: it names the field itself.
        None => anyhow::anyhow!("line {number}: {text}"),
    }
}

/// The first byte that is no space, left where it is. What precedes it is at most what was read at once, else `None`.
fn first_byte(table: &mut impl BufRead) -> std::io::Result<Option<u8>> {
    let start = table.fill_buf()?;
    Ok(start.iter().copied().find(|byte| !byte.is_ascii_whitespace()))
}

/// Takes the rows of an array as they are parsed.
struct Array<'a, T>(&'a mut T);

impl<'de, T: FnMut(Row) -> bool> Visitor<'de> for Array<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of devices")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while let Some(row) = rows.next_element::<Row>()? {
            if !(self.0)(row) {
                return Err(serde::de::Error::custom("reading was given up"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";

    fn rows(text: &str, format: TableFormat) -> anyhow::Result<Vec<Row>> {
        let mut rows = Vec::new();
        read(text.as_bytes(), format, |row| {
            rows.push(row);
            true
        })?;
        Ok(rows)
    }

    fn table() -> Vec<Row> {
        let row = |id: &str, proof, public_key: Option<&str>, revoked| Row {
            id: id.into(),
            proof,
            public_key: public_key.map(Into::into),
            next_public_key: None,
            revoked,
        };
        vec![row("a", ProofName::PublicKey, Some(KEY), Some(true)), row("b", ProofName::Plain, None, None)]
    }

    #[test]
    fn the_same_devices_are_read_from_csv_from_lines_and_from_an_array() {
        let csv = format!("id,proof,public_key,next_public_key,revoked\na, public-key,{KEY},,true\nb,plain,,,\n");
        assert_eq!(rows(&csv, TableFormat::Csv).unwrap(), table());
        let shorter = format!("public_key,revoked,proof,id\n{KEY},true,,a\n,,plain,b\n");
        assert_eq!(rows(&shorter, TableFormat::Csv).unwrap(), table());
        let (a, b) =
            (format!("{{\"id\":\"a\",\"public_key\":\"{KEY}\",\"revoked\":true}}"), r#"{"id":"b","proof":"plain"}"#);
        assert_eq!(rows(&format!("{a}\n{b}\n"), TableFormat::Json).unwrap(), table());
        assert_eq!(rows(&format!(" \n[{a},\n{b}]"), TableFormat::Json).unwrap(), table());
        assert_eq!(rows("", TableFormat::Json).unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_named_by_line_and_column() {
        let csv = |body: &str| rows(&format!("id,proof,public_key,next_public_key,revoked\n{body}"), TableFormat::Csv);
        for (body, words) in [
            ("a,plain,,,\nb c,plain,,,\n", ["line 3", "column id", "0x20"]),
            ("a,,12,,\n", ["line 2", "column public_key", "64 hexadecimal digits"]),
            ("a,plain,,,maybe\n", ["line 2", "column revoked", "`true` or `false`"]),
            ("a,none,,,\n", ["line 2", "none", "plain"]),
            ("a,,,,\n", ["line 2", "column public_key", "proof plain"]),
            ("a,plain,,\n", ["line 2", "4 columns", "5"]),
            ("\"a\nb\",plain,,,\n", ["line 2", "column id", "0x0a"]),
        ] {
            let error = csv(body).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{body}: {error}");
        }
        let error = rows("name,proof\n", TableFormat::Csv).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("column id"), "{error}");
        let json = "{\"id\":\"a\",\"proof\":\"plain\"}\n\n{\"id\":\"b\",\"public_key\":\"12\"}";
        let error = rows(json, TableFormat::Json).unwrap_err().to_string();
        assert!(error.starts_with("line 3: column public_key has 2"), "{error}");
        let error = rows("{\"id\":\"a\",\"proof\":7}", TableFormat::Json).unwrap_err().to_string();
        assert!(error.starts_with("line 1, column 19: "), "{error}");
        let error = rows(&"x".repeat(70_000), TableFormat::Json).unwrap_err().to_string();
        assert!(error.contains("longer than 65536"), "{error}");
        let error = rows("[{\"id\":\"a\",\"prof\":\"plain\"}]", TableFormat::Json).unwrap_err().to_string();
        assert!(error.contains("`prof`") && error.contains("line 1"), "{error}");
    }
}
