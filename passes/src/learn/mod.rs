//! What the passes that learn by gradients share.
//!
//! - What is learned: rounding of weights ([`rounding`]), scales, zero-points and biases, each moved by Adam ([`adam`]).
//! - On what: [`layers`] stand in a graph whose weights are codes, [`blocks`] cut that graph into units, a unit's
//!   [`training_graph`] has soft weights and dropped quantizers, [`unit_training`] fits it to the float network,
//!   [`reconstruction`] does so for one unit after the other.
//! - [`network_training`] moves scales, zero-points and biases of the whole network together, on images that [`augment`] may change.
//! - [`loss`] holds the loss of a unit with its gradient, [`holdout_split`] says which images may be used, [`deviations`] the unit of biases' rates.

pub(crate) mod adam;
pub(crate) mod augment;
pub(crate) mod blocks;
pub(crate) mod deviations;
pub(crate) mod holdout_split;
pub(crate) mod latent;
pub(crate) mod layers;
pub(crate) mod loss;
pub(crate) mod network_training;
pub(crate) mod reconstruction;
pub(crate) mod rounding;
pub(crate) mod training_graph;
pub(crate) mod unit_training;
