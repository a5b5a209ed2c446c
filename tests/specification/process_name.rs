//! Signals to a process that is found by its name.

use crate::pod::{App, NOBODY, Pod, is_root, offer, skip};
use crate::process::process_in;

/// A name for processes of this test alone: at most 15 letters, if `suffix` has at most 6.
pub fn own_name(pod: &Pod, suffix: &str) -> String {
    let directory = pod.path().file_name().and_then(|name| name.to_str()).expect("a name");
    format!("{directory}{suffix}")
}

#[test]
fn the_oldest_process_of_a_name_is_signalled_and_no_other() {
    let pod = Pod::new();
    let name = own_name(&pod, "-app");
    let (older, younger) = (App::start(&pod, &name), App::start(&pod, &name));
    let agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[&format!("--signal-process={name}")]);
    older.wait_for_signals(&["HUP"]);
    let line = refresh.wait_for_log(&["INFO", "sent SIGHUP", &name]);
    assert_eq!(process_in(&line), older.pid());
    agent.reply(offer([pod.mint()]));
    older.wait_for_signals(&["HUP", "HUP"]);
    younger.has_got(&[]);
    refresh.stop();
}

#[test]
fn a_process_that_is_dead_is_not_the_oldest() {
    let pod = Pod::new();
    let name = own_name(&pod, "-app");
    let (mut older, younger) = (App::start(&pod, &name), App::start(&pod, &name));
    older.kill();
    let _agent = pod.agent(offer([pod.mint()]));
    let refresh = pod.refresh(&[&format!("--signal-process={name}")]);
    younger.wait_for_signals(&["HUP"]);
    refresh.stop();
}

/// Runs refresh with this name, and asserts that the first of these processes gets the signal, and
/// no other does.
fn signals_the_first(pod: &Pod, name: &str, apps: &[App]) {
    let _agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[&format!("--signal-process={name}")]);
    let line = refresh.wait_for_log(&["sent SIGHUP"]);
    let (found, others) = apps.split_first().expect("a process");
    assert_eq!(process_in(&line), found.pid());
    found.wait_for_signals(&["HUP"]);
    others.iter().for_each(|other| other.has_got(&[]));
    refresh.stop();
}

#[test]
fn a_process_is_also_found_by_the_name_on_its_command_line() {
    let pod = Pod::new();
    let name = own_name(&pod, "-app");
    signals_the_first(&pod, &name, &[App::start_as(&pod, "sh", &format!("/usr/sbin/{name}"))]);
}

/// The kernel keeps 15 letters.
#[test]
fn a_name_of_more_than_fifteen_letters_is_found() {
    let pod = Pod::new();
    let name = own_name(&pod, "-long-application");
    signals_the_first(&pod, &name, &[App::start(&pod, &name), App::start(&pod, &name)]);
}

/// So it is with scripts: the process is told that it is its interpreter.
#[test]
fn a_name_of_more_than_fifteen_letters_is_found_where_the_kernel_alone_knows_it() {
    let pod = Pod::new();
    let name = own_name(&pod, "-long-application");
    signals_the_first(&pod, &name, &[App::start_as(&pod, &name, "sh")]);
}

#[test]
fn an_older_process_whose_name_only_begins_the_same_is_left_alone() {
    for other in ["-long", "-long-apprentice"] {
        let pod = Pod::new();
        let name = own_name(&pod, "-long-application");
        let older = App::start(&pod, &own_name(&pod, other));
        signals_the_first(&pod, &name, &[App::start(&pod, &name), older]);
    }
}

#[test]
fn a_name_that_no_process_has_is_a_warning_and_refresh_goes_on() {
    let pod = Pod::new();
    let name = own_name(&pod, "-none");
    let agent = pod.agent(offer([pod.mint()]));
    let mut refresh = pod.refresh(&[&format!("--signal-process={name}")]);
    refresh.wait_for_log(&["WARN", "could not notify the application", &name, "shareProcessNamespace: true"]);
    pod.rotate(&agent);
    refresh.stop();
}

#[test]
fn an_older_process_of_another_user_is_left_alone() {
    if !is_root() {
        return skip("it needs root");
    }
    let pod = Pod::new();
    let name = own_name(&pod, "-app");
    let impostor = App::start(&pod, &name);
    let app = App::start_by_nobody(&pod, &name);
    std::os::unix::fs::chown(pod.volume(), Some(NOBODY), Some(NOBODY)).expect("an owner");
    let _agent = pod.agent(offer([pod.mint()]));
    let helper = pod.helper(&["--mode=refresh", &format!("--signal-process={name}")]);
    let mut refresh = helper.run_by_nobody().start();
    assert_eq!(process_in(&refresh.wait_for_log(&["sent SIGHUP"])), app.pid());
    app.wait_for_signals(&["HUP"]);
    impostor.has_got(&[]);
    refresh.stop();
}

#[test]
fn a_name_that_only_processes_of_other_users_have_is_an_error() {
    if !is_root() {
        return skip("it needs root");
    }
    let pod = Pod::new();
    let name = own_name(&pod, "-app");
    let impostor = App::start(&pod, &name);
    std::os::unix::fs::chown(pod.volume(), Some(NOBODY), Some(NOBODY)).expect("an owner");
    let _agent = pod.agent(offer([pod.mint()]));
    let helper = pod.helper(&["--mode=refresh", &format!("--signal-process={name}")]);
    let mut refresh = helper.run_by_nobody().start();
    refresh.wait_for_log(&["ERROR", &name, "belongs to another user", "capability KILL"]);
    impostor.has_got(&[]);
    refresh.stop();
}
