//! The process that holds a pod's namespaces open: it does nothing, for ever.

fn main() {
    loop {
        std::thread::park();
    }
}
