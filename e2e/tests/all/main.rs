//! End-to-end tests, each named by what it claims. See the crate `e2e` for how they are made.

#[cfg(test)]
mod administration;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod by_hand;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod command;
#[cfg(test)]
mod conversations;
#[cfg(test)]
mod daemons;
#[cfg(test)]
mod doors;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod gateways;
#[cfg(test)]
mod kv;
#[cfg(test)]
mod membership;
#[cfg(test)]
mod moves;
#[cfg(test)]
mod observability;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod principals;
#[cfg(test)]
mod rebuilds;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod servers;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod slow;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod traces;
