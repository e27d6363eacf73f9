//! `imlink redis-acl`: users for Redis.

use std::fmt::Write as _;
use std::io::Write as _;

use imlink_protocol::hex::Hex;
use imlink_store::acl::{Role, operations, rules};
use sha2::{Digest, Sha256};

use crate::cli::RedisAclArgs;
use crate::exit::Exit;
use crate::state_dir::random_hex;

/// Prints what `args` ask for. The rules hold only hashes of passwords; the passwords, drawn now, go to standard error,
/// or with `--json` into the objects.
pub(crate) fn redis_acl(args: &RedisAclArgs) -> anyhow::Result<Exit> {
    let roles = args.role.map_or_else(|| Role::ALL.to_vec(), |role| vec![role]);
    let mut out = String::new();
    if args.role.is_none() && !args.json && !args.setuser {
        writeln!(out, "user default off resetchannels -@all")?;
    }
    for role in roles {
        let (user, password) = (format!("{}{role}", args.prefix), random_hex()?);
        let rules = rules(&[role]);
        let hash = Hex(&Sha256::digest(&password)).to_string();
        if args.json {
            let rules: Vec<_> = rules.iter().map(String::as_str).collect();
            let does: Vec<_> = operations(role).collect();
            let shown = serde_json::json!({
                "role": role.name(),
                "user": user,
                "password": password,
                "password_sha256": hash,
                "rules": rules,
                "operations": does,
            });
            writeln!(out, "{shown}")?;
            continue;
        }
        match args.setuser {
            true => {
                let quoted: Vec<String> = rules.iter().map(|rule| format!("\"{rule}\"")).collect();
                writeln!(out, "ACL SETUSER {user} reset on #{hash} {}", quoted.join(" "))?;
            }
            false => writeln!(out, "user {user} on #{hash} {}", rules.join(" "))?,
        }
        eprintln!("{user}: password {password}, so --store redis://{user}:{password}@HOST:6379");
    }
    // Last: whoever pipes this into redis-cli is that user.
    if args.role.is_none() && args.setuser {
        writeln!(out, "ACL SETUSER default off")?;
    }
    std::io::stdout().lock().write_all(out.as_bytes())?;
    Ok(Exit::Done)
}
