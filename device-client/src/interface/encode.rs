//! An interface's bytes, written while the firmware is compiled: its code and the schemas' own tables take no flash.
//!
//! It is the postcard encoding of `imlink_protocol::interface::Entry`s; the order of a schema's variants is that of
//! `postcard-schema`. A test compares the two.

use imlink_protocol::Key;
use imlink_protocol::interface::Kind;
use imlink_protocol::limits::{INTERFACE_LEN_MAX, PATH_LEN_MAX};
use postcard_schema::schema::{DataModelType, DataModelVariant, NamedType, NamedValue, NamedVariant};

/// One thing that a firmware speaks about; made by [`interface!`](macro@crate::interface), gone when it is compiled.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// What the path is used for.
    pub kind: Kind,
    /// The path backends use: 1–128 bytes of `[A-Za-z0-9._:/-]`.
    pub path: &'static str,
    /// The key on the wire.
    pub key: Key,
    /// Type of the payload, `None` for raw bytes.
    pub schema: Option<&'static NamedType>,
}

/// Bytes of an interface.
///
/// # Panics
/// At compile time: when two entries of one kind have the same key, a path does not have its form, or it is longer
/// than 64 KiB.
pub const fn len(entries: &[Entry]) -> usize {
    let mut i = 0;
    while i < entries.len() {
        assert!(is_path(entries[i].path.as_bytes()), "a path has 1 to 128 bytes of A-Z a-z 0-9 . _ : - /");
        let mut j = i + 1;
        while j < entries.len() {
            let is_other = entries[i].kind as u8 != entries[j].kind as u8
                || u32::from_le_bytes(entries[i].key.0) != u32::from_le_bytes(entries[j].key.0);
            assert!(is_other, "two entries of one kind have the same key: rename a path");
            j += 1;
        }
        i += 1;
    }
    let mut out = Writer { out: &mut [], len: 0 };
    out.entries(entries);
    assert!(out.len <= INTERFACE_LEN_MAX, "an interface has at most 64 KiB");
    out.len
}

/// The bytes of an interface; `LEN` is their [`len`].
///
/// # Panics
/// At compile time: as [`len`].
pub const fn encode<const LEN: usize>(entries: &[Entry]) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    let mut out = Writer { out: &mut bytes, len: 0 };
    out.entries(entries);
    assert!(out.len == LEN, "LEN is what `len` gives");
    bytes
}

const fn is_path(path: &[u8]) -> bool {
    let mut i = 0;
    while i < path.len() {
        let is_allowed = path[i].is_ascii_alphanumeric() || matches!(path[i], b'.' | b'_' | b':' | b'-' | b'/');
        if !is_allowed {
            return false;
        }
        i += 1;
    }
    !path.is_empty() && path.len() <= PATH_LEN_MAX
}

/// Counts what it is given, and keeps as much as there is room for.
struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Writer<'_> {
    const fn entries(&mut self, entries: &[Entry]) {
        let mut i = 0;
        while i < entries.len() {
            let Entry { kind, path, key, schema } = entries[i];
            self.byte(kind as u8);
            self.bytes(&key.0);
            self.text(path);
            match schema {
                None => self.varint(0),
                Some(schema) => {
                    let mut counted = Writer { out: &mut [], len: 0 };
                    counted.named(schema);
                    self.varint(counted.len);
                    self.named(schema);
                }
            }
            i += 1;
        }
    }

    const fn named(&mut self, schema: &NamedType) {
        self.text(schema.name);
        self.data(schema.ty);
    }

    const fn data(&mut self, ty: &DataModelType) {
        use DataModelType::*;
        self.byte(number(ty));
        match ty {
            Option(ty) | NewtypeStruct(ty) | Seq(ty) => self.named(ty),
            Tuple(types) | TupleStruct(types) => self.types(types),
            Map { key, val } => {
                self.named(key);
                self.named(val);
            }
            Struct(fields) => self.fields(fields),
            Enum(variants) => self.variants(variants),
            _ => {}
        }
    }

    const fn variants(&mut self, variants: &[&NamedVariant]) {
        self.varint(variants.len());
        let mut i = 0;
        while i < variants.len() {
            self.text(variants[i].name);
            match variants[i].ty {
                DataModelVariant::UnitVariant => self.byte(0),
                DataModelVariant::NewtypeVariant(ty) => {
                    self.byte(1);
                    self.named(ty);
                }
                DataModelVariant::TupleVariant(types) => {
                    self.byte(2);
                    self.types(types);
                }
                DataModelVariant::StructVariant(fields) => {
                    self.byte(3);
                    self.fields(fields);
                }
            }
            i += 1;
        }
    }

    const fn types(&mut self, types: &[&NamedType]) {
        self.varint(types.len());
        let mut i = 0;
        while i < types.len() {
            self.named(types[i]);
            i += 1;
        }
    }

    const fn fields(&mut self, fields: &[&NamedValue]) {
        self.varint(fields.len());
        let mut i = 0;
        while i < fields.len() {
            self.text(fields[i].name);
            self.named(fields[i].ty);
            i += 1;
        }
    }

    const fn text(&mut self, text: &str) {
        self.varint(text.len());
        self.bytes(text.as_bytes());
    }

    const fn varint(&mut self, mut number: usize) {
        while number >= 0x80 {
            self.byte((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }

    const fn bytes(&mut self, bytes: &[u8]) {
        let mut i = 0;
        while i < bytes.len() {
            self.byte(bytes[i]);
            i += 1;
        }
    }

    const fn byte(&mut self, byte: u8) {
        if self.len < self.out.len() {
            self.out[self.len] = byte;
        }
        self.len += 1;
    }
}

/// Place of a form among the variants of `DataModelType`.
const fn number(ty: &DataModelType) -> u8 {
    use DataModelType::*;
    match ty {
        Bool => 0,
        I8 => 1,
        U8 => 2,
        I16 => 3,
        I32 => 4,
        I64 => 5,
        I128 => 6,
        U16 => 7,
        U32 => 8,
        U64 => 9,
        U128 => 10,
        Usize => 11,
        Isize => 12,
        F32 => 13,
        F64 => 14,
        Char => 15,
        String => 16,
        ByteArray => 17,
        Option(_) => 18,
        Unit => 19,
        UnitStruct => 20,
        NewtypeStruct(_) => 21,
        Seq(_) => 22,
        Tuple(_) => 23,
        TupleStruct(_) => 24,
        Map { .. } => 25,
        Struct(_) => 26,
        Enum(_) => 27,
        Schema => 28,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_its_number_of_postcard() {
        const BOOL: &NamedType = &NamedType { name: "bool", ty: &DataModelType::Bool };
        use DataModelType::*;
        let forms = [
            Bool,
            I8,
            U8,
            I16,
            I32,
            I64,
            I128,
            U16,
            U32,
            U64,
            U128,
            Usize,
            Isize,
            F32,
            F64,
            Char,
            String,
            ByteArray,
            Option(BOOL),
            Unit,
            UnitStruct,
            NewtypeStruct(BOOL),
            Seq(BOOL),
            Tuple(&[BOOL]),
            TupleStruct(&[BOOL]),
            Map { key: BOOL, val: BOOL },
            Struct(&[]),
            Enum(&[]),
            Schema,
        ];
        for form in forms {
            let mut bytes = [0; 32];
            let mut out = Writer { out: &mut bytes, len: 0 };
            out.data(&form);
            let len = out.len;
            assert_eq!(bytes[..len], postcard::to_stdvec(&form).unwrap(), "{form:?}");
        }
    }
}
