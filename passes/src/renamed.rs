//! Names that methods and options of passes had in earlier versions. They are still read; the reader is told the present name.

use std::fmt;

/// A name of an earlier version, where it was written instead of the present one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// What has the name, before it: "method", "option of `reconstruct`".
    pub what: String,
    /// The earlier name.
    pub former: &'static str,
    /// The present name.
    pub name: &'static str,
}

impl fmt::Display for Renamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Renamed { what, former, name } = self;
        write!(f, "{what} `{former}` is now called `{name}`")
    }
}
