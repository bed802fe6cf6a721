//! The client, the images and the stall measurement against nbdkit, a server that others wrote.

use super::*;
use crate::cluster::{free_address, spawn, wait_port};
use crate::image::{BLOCK, Image};
use crate::process::find_program;
use crate::stall;
use std::process::{Child, Command};

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(name: &str) -> (Server, String) {
    let program = find_program("nbdkit").expect("install Debian package nbdkit");
    let address = free_address().expect("a port is free");
    let (host, port) = address.split_once(':').expect("an address has a port");
    let log = std::env::temp_dir().join(format!("xtask-{name}-{}.log", std::process::id()));
    let mut command = Command::new(program);
    command.args(["-f", "-i", host, "-p", port, "memory", "16M"]);
    let server = Server(spawn(&mut command, &log).expect("nbdkit starts"));
    wait_port(&address, "nbdkit", &log).expect("nbdkit listens");
    let _ = std::fs::remove_file(log);
    (server, address)
}

#[test]
fn real_server_keeps_every_byte_and_a_wrong_one_is_found() {
    let (_server, address) = start("image");
    let patience = Duration::from_secs(20);
    let mut client = Client::connect(&address, "", patience).expect("nbdkit opens its export");
    assert_eq!(client.size(), 16 << 20);
    let mut image = Image::new(16 << 20);
    image
        .write_bulk(&mut client, 12 << 20, 1, "write")
        .expect("nbdkit takes writes");
    image
        .write_random(&mut client, 12 << 20, 50, 2)
        .expect("nbdkit takes writes");
    image
        .verify(&mut client, "all")
        .expect("every byte is right");
    client
        .write(5 * BLOCK, &[7; 512])
        .expect("nbdkit takes writes");
    let error = image
        .verify(&mut client, "all")
        .expect_err("512 bytes are wrong");
    assert!(error.to_string().contains("byte 20480"), "{error}");
}

#[test]
fn real_stall_measurement_goes_on_after_the_strike_and_names_a_failed_write() {
    let (mut server, address) = start("stall");
    let patience = Duration::from_secs(20);
    let short = Duration::from_millis(50);
    let mut next = || (0, vec![1; 4096]);
    let client = Client::connect(&address, "", patience).expect("nbdkit opens its export");
    let stall = stall::measure(client, &mut next, short, short, || Ok(())).expect("no write fails");
    assert!(stall.before > 0 && stall.after > 0);
    let client = Client::connect(&address, "", patience).expect("nbdkit opens its export");
    let outcome = stall::measure(client, &mut next, short, short, || Ok(server.0.kill()?));
    let error = outcome
        .err()
        .expect("writes fail when the server is killed");
    assert!(format!("{error:#}").contains("a write failed"), "{error:#}");
}
