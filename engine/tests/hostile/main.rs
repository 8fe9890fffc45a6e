//! What attackers send: the published holes of other stacks (Ripple20 and later), floods and forgeries, every cut and every wrong length, and a million
//! random frames. Each must be delivered or counted in exactly one `drop_…`, and leave the stack alive and every frame accounted for.

mod cuts;
mod floods;
mod forgeries;
mod frames;
mod million;
mod rig;
mod ripple20;
mod tcp_floods;
mod tcp_forgeries;
mod tcp_million;
mod tcp_odd;
mod tcp_peer;
mod tcp_rules;
