//! One implementation of TLS for the whole process.

/// Chooses it, before the first client is made: several are linked in, and none is
/// taken by itself. Again is nothing.
pub fn install() {
    // An error says that there is one already.
    drop(rustls::crypto::ring::default_provider().install_default());
}
