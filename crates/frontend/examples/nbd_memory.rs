//! Serves a device in memory over NBD until it is killed: the protocol's ceiling for benchmarks.
//!
//! ```text
//! cargo run --release -p frontend --example nbd_memory -- 127.0.0.1:10809 1024    # MiB
//! fio --name=job --ioengine=nbd --uri=nbd://127.0.0.1:10809/memory --rw=randread --bs=4k --iodepth=64
//! ```

use blockdev::{BlockDevice, MemoryDevice};
use frontend::nbd::{ExportName, Exports, OpenError, Options, serve};
use futures_util::future::LocalBoxFuture;
use std::rc::Rc;
use vocab::ByteCount;
use world::Address;

struct Memory(MemoryDevice);

const NAME: &str = "memory";

impl Exports for Memory {
    fn list(&self) -> LocalBoxFuture<'static, Result<Vec<ExportName>, String>> {
        let export = ExportName {
            name: NAME.to_owned(),
            description: format!("{} of memory", self.0.size()),
        };
        Box::pin(std::future::ready(Ok(vec![export])))
    }

    fn open(&self, name: &str) -> LocalBoxFuture<'static, Result<Rc<dyn BlockDevice>, OpenError>> {
        let device: Rc<dyn BlockDevice> = Rc::new(self.0.clone());
        let known = (name == NAME).then_some(device).ok_or(OpenError::Unknown);
        Box::pin(std::future::ready(known))
    }

    fn closed(&self, _device: Rc<dyn BlockDevice>) -> LocalBoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or("127.0.0.1:10809".to_owned());
    let mib: u64 = args.next().unwrap_or("1024".to_owned()).parse()?;
    let served = world_linux::run(world_linux::ShardOptions::default(), move |world, _| {
        Box::pin(async move {
            let listener = world.net.listen(&Address(address)).await?;
            println!("nbd://{}/{NAME}", listener.address());
            let exports = Memory(MemoryDevice::new(ByteCount::mib(mib)));
            serve(world, listener, Rc::new(exports), Options::default()).await;
            Ok::<(), world::NetError>(())
        })
    })?;
    Ok(served?)
}
