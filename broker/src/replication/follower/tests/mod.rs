//! Fetchers against a scripted leader, with real logs; and the pure parts by themselves.

mod divergence;
mod fake_leader;
mod faults;
mod fetching;
mod latency;
mod lies;
mod pure;
mod refilling;
mod rig;
mod rounds;
