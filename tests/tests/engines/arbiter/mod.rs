//! Arbiters as they are shipped, against an etcd of three members and a server of each engine: MySQL
//! in `sh`, MariaDB in `bj`, a witness. Applications write to both servers all the time.

mod anew;
mod application;
mod cancelled;
mod crowded;
mod expired;
mod failback;
mod full_disk;
mod guard_killed;
mod life;
mod links;
mod orders;
mod paused;
mod renewed;
mod rig;
mod standby;
mod topology;
mod upgraded;
mod without_etcd;
