//! What `refine-scales` and `correct-channels` share: which images they use ([`split`]), how networks are compared on them
//! ([`comparison`]), what can be moved ([`parameters`]), what is evaluated ([`tail`]) and the search itself ([`search`]).

pub(crate) mod comparison;
pub(crate) mod parameters;
pub(crate) mod search;
pub(crate) mod split;
pub(crate) mod tail;
