//! Injects faults, and repairs them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::check::History;
use crate::database;
use crate::node::Node;
use crate::options::{Dice, Options};
use crate::proxy::Way;

/// Injects one fault after another until `end`. When it returns, everything is repaired.
pub(crate) async fn until(end: Instant, nodes: &[Arc<Node>], options: &Options, history: &History) {
    let mut dice = Dice(options.seed);
    while Instant::now() < end {
        pause(&mut dice, 100, 1200).await;
        let Some(node) = nodes.get(dice.roll(nodes.len())) else { return };
        match dice.roll(if options.restart.is_some() { 11 } else { 10 }) {
            0..=2 => {
                history.fault("is halted (SIGSTOP)", Some(node.number));
                node.signal("STOP").await;
                pause(&mut dice, 50, 3000).await;
                node.signal("CONT").await;
            }
            3 | 4 => {
                history.fault("is killed (SIGKILL)", Some(node.number));
                node.kill().await;
                pause(&mut dice, 50, 1500).await;
                if let Err(error) = node.revive().await {
                    history.say(&format!("node {} does not start: {error}", node.number));
                }
            }
            5 | 6 => {
                history.fault("hears nothing from the database, half-open", Some(node.number));
                node.proxy.set(Way::Stalled);
                pause(&mut dice, 50, 3000).await;
                node.proxy.set(Way::Open);
            }
            7 | 8 => {
                history.fault("is cut off from the database", Some(node.number));
                node.proxy.set(Way::Cut);
                pause(&mut dice, 50, 2000).await;
                node.proxy.set(Way::Open);
            }
            9 => {
                history.fault("all connections to the database are terminated", None);
                if let Err(error) = database::terminate(&options.database_url, &options.schema).await {
                    history.say(&format!("they are not: {error}"));
                }
            }
            _ => {
                history.fault("the database is restarted", None);
                if let Some(command) = &options.restart {
                    let restarted = Command::new("sh").args(["-c", command]).output().await;
                    if !restarted.is_ok_and(|output| output.status.success()) {
                        history.say("it is not: the command failed");
                    }
                }
            }
        }
    }
}

async fn pause(dice: &mut Dice, least: u64, most: usize) {
    tokio::time::sleep(Duration::from_millis(least + dice.roll(most) as u64)).await;
}
