use super::Field;

/// Which fields a text record has, in which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    fields: Vec<Field>,
    version: u8,
}

impl Format {
    /// AWS's default: the fields of version 2.
    pub fn v2() -> Self {
        Self::new(Field::ALL.iter().copied().filter(|field| field.version() == 2).collect())
    }

    fn new(fields: Vec<Field>) -> Self {
        let version = fields.iter().map(|field| field.version()).max().unwrap_or(2);
        Self { fields, version }
    }

    /// The fields.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The value of `version` in every record: the highest version among the fields.
    pub const fn version(&self) -> u8 {
        self.version
    }
}
