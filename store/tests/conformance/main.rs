//! One set of behaviours for every engine (DESIGN §6). Each is a function over a fresh [`Store`] and becomes a
//! test of that name for memory and for Redis, which runs for real.

#[path = "../redis_server/mod.rs"]
mod redis_server;

mod attaching;
mod events;
mod identities;
mod mailboxes;
mod nodes;
mod outcomes;
mod properties;
mod retries;
mod scene;
mod tables;
mod tokens;

/// Makes a test for each engine of each behaviour, which is an `async fn(Store)` of the module.
macro_rules! behaviours {
    ($($behaviour:ident),* $(,)?) => {
        mod memory {
            $(
                #[tokio::test]
                async fn $behaviour() {
                    super::$behaviour(imlink_store::Store::memory(crate::scene::config())).await;
                }
            )*
        }

        mod redis {
            $(
                #[tokio::test]
                async fn $behaviour() {
                    let server = crate::redis_server::RedisServer::start();
                    super::$behaviour(crate::scene::open(&server).await).await;
                }
            )*
        }
    };
}
pub(crate) use behaviours;
