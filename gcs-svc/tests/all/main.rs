//! Whole daemons in one process, on ports picked free, under a membership service that a test controls.

#[cfg(test)]
mod bed;
#[cfg(test)]
mod binary;
#[cfg(test)]
mod links;
#[cfg(test)]
mod modes;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod unary;
