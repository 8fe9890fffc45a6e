//! Watches the interface while the engine runs on it, and says what changed.

use crate::port::xsk::{self, Link, LinkState, XskError};

/// The interface as it was when the engine started, and as it was last seen.
#[derive(Debug)]
pub(super) struct LinkWatch {
    name: String,
    /// What the engine's sockets and buffers were made for.
    mtu: usize,
    last: Link,
}

impl LinkWatch {
    /// Begins to watch an interface that the engine runs on with this MTU.
    ///
    /// # Errors
    /// There is no such interface (any more).
    pub(super) fn new(name: &str, mtu: usize) -> Result<Self, XskError> {
        let link = xsk::link(name)?;
        Ok(Self { name: name.into(), mtu, last: Link { mtu, state: LinkState::Up, ..link } })
    }

    /// Looks again and says in the log what is different.
    ///
    /// # Errors
    /// The interface is gone, says the message.
    pub(super) fn look(&mut self) -> Result<(), String> {
        let name = &self.name;
        match xsk::link(name) {
            Ok(link) if link.ifindex == self.last.ifindex => {
                for (warn, line) in changes(name, self.mtu, self.last, link) {
                    if warn {
                        tracing::warn!("{line}");
                    } else {
                        tracing::info!("{line}");
                    }
                }
                self.last = link;
                Ok(())
            }
            Ok(_) => Err(format!("{name} is gone, and another interface has its name")),
            Err(error) => Err(format!("{name} is gone: {error}")),
        }
    }
}

/// What is to be said of a change, and whether it is a warning.
fn changes(name: &str, mtu: usize, last: Link, now: Link) -> Vec<(bool, String)> {
    let mut lines = Vec::new();
    if now.state != last.state {
        lines.push(match now.state {
            LinkState::Up => (false, format!("{name} is up again")),
            LinkState::NoCarrier => {
                (true, format!("{name} has no carrier: nothing is received or sent until the other end is up"))
            }
            LinkState::Down => {
                (true, format!("{name} is down: nothing is received or sent until `ip link set {name} up`"))
            }
        });
    }
    if now.mtu != last.mtu {
        let line = format!("the MTU of {name} is now {}", now.mtu);
        lines.push(match now.mtu {
            same if same == mtu => (false, format!("{line} again")),
            more if more > mtu => (
                true,
                format!("{line}; the engine still sends at most {mtu}, as when it started: restart it to use more"),
            ),
            _ => {
                let why = "the link may lose its larger packets";
                (true, format!("{line}; the engine still sends up to {mtu}, as when it started, and {why}: restart it"))
            }
        });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_once() {
        let up = Link { ifindex: 3, mtu: 1500, state: LinkState::Up };
        let told = |last, now| changes("eth1", 1500, last, now);
        assert_eq!(told(up, up), []);
        let down = Link { state: LinkState::Down, ..up };
        assert!(told(up, down)[0].1.contains("eth1 is down") && told(up, down)[0].0);
        assert_eq!(told(down, down), []);
        assert_eq!(told(down, up), [(false, "eth1 is up again".into())]);
        let jumbo = Link { mtu: 9000, ..down };
        let lines = told(up, jumbo);
        assert!(
            lines.len() == 2 && lines[1].1.contains("now 9000") && lines[1].1.contains("at most 1500"),
            "{lines:?}"
        );
        assert!(told(up, Link { mtu: 1280, ..up })[0].1.contains("lose its larger packets"));
        assert_eq!(told(jumbo, down), [(false, "the MTU of eth1 is now 1500 again".into())]);
    }
}
