//! The algorithms of RFC 7518, section 3.1, and RFC 8037 by which a token may be signed. `none` is not among them.

use serde::{Deserialize, Serialize};

/// Declares the algorithms with their names in a token's header.
macro_rules! algorithms {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)+) => {
        /// An algorithm by which tokens are signed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Algorithm { $($(#[$doc])* #[serde(rename = $name)] $variant,)+ }

        impl Algorithm {
            /// Every algorithm.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in the header of a token.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

algorithms! {
    /// HMAC with SHA-256.
    Hs256 => "HS256",
    /// HMAC with SHA-384.
    Hs384 => "HS384",
    /// HMAC with SHA-512.
    Hs512 => "HS512",
    /// RSA, PKCS #1 v1.5, with SHA-256.
    Rs256 => "RS256",
    /// RSA, PKCS #1 v1.5, with SHA-384.
    Rs384 => "RS384",
    /// RSA, PKCS #1 v1.5, with SHA-512.
    Rs512 => "RS512",
    /// RSA, PSS, with SHA-256.
    Ps256 => "PS256",
    /// RSA, PSS, with SHA-384.
    Ps384 => "PS384",
    /// RSA, PSS, with SHA-512.
    Ps512 => "PS512",
    /// ECDSA on P-256 with SHA-256.
    Es256 => "ES256",
    /// ECDSA on P-384 with SHA-384.
    Es384 => "ES384",
    /// ECDSA on P-521 with SHA-512.
    Es512 => "ES512",
    /// Ed25519.
    EdDsa => "EdDSA",
}

impl Algorithm {
    /// The algorithm of a name, which is compared letter by letter.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name)
    }

    /// Whether the key is a secret that the issuer and this node share. Otherwise it is a public key.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}
