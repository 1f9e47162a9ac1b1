//! Base64 as Elixir's `Base` reads it, which Phoenix uses: whatever the bits behind the last byte are.

use base64::{
    alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);

/// The standard alphabet with padding.
pub(crate) static PADDED: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);

/// The standard alphabet with padding or without.
pub(super) static PADDED_OR_NOT: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, CONFIG.with_decode_padding_mode(DecodePaddingMode::Indifferent));
