//! End-to-end tests, each named by what it claims. See the crate `e2e` for how they are made.

#[cfg(test)]
mod clients;
#[cfg(test)]
mod gateways;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod servers;
