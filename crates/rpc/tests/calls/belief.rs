//! Connections whose certificate is no longer believed.

use crate::*;
use world::{Listener, NetError, Stream};

/// A stream whose caller is believed for a while.
struct Doubted {
    inner: Rc<dyn Stream>,
    believed: Rc<Cell<bool>>,
}

impl Stream for Doubted {
    fn read(&self) -> LocalBoxFuture<'static, Result<Bytes, NetError>> {
        self.inner.read()
    }

    fn write(&self, parts: Vec<Bytes>) -> LocalBoxFuture<'static, Result<(), NetError>> {
        self.inner.write(parts)
    }

    fn close(&self) {
        self.inner.close();
    }

    fn is_believed(&self) -> bool {
        self.believed.get()
    }
}

struct Door {
    inner: Rc<dyn Listener>,
    believed: Rc<Cell<bool>>,
}

impl Listener for Door {
    fn accept(&self) -> LocalBoxFuture<'static, Result<Rc<dyn Stream>, NetError>> {
        let (accepted, believed) = (self.inner.accept(), self.believed.clone());
        Box::pin(async move {
            let inner = accepted.await?;
            Ok(Rc::new(Doubted { inner, believed }) as Rc<dyn Stream>)
        })
    }

    fn address(&self) -> Address {
        self.inner.address()
    }
}

#[test]
fn a_connection_ends_when_its_certificate_is_no_longer_believed() {
    let sim = Simulation::new(1, world_sim::Options::default());
    let (client, server) = (sim.host("client"), sim.host("server"));
    let (seen, believed) = (Seen::default(), Rc::new(Cell::new(true)));
    let (world, own, flag) = (server.world(), seen.clone(), believed.clone());
    server.spawn(async move {
        let inner = world.net.listen(&Address("server:1".into())).await.unwrap();
        let door = Rc::new(Door {
            inner,
            believed: flag,
        });
        let handler = Rc::new(Echo {
            world: world.clone(),
            seen: own,
        });
        serve(world, door, hello(1), handler).await;
    });
    sim.run_for(Duration::from_millis(1));
    let peer = peer(&client, &server);
    let calling = peer.clone();
    run(&sim, &client, async move {
        insist(&calling, 1, Bytes::new()).await
    });
    sim.run_for(20 * SECOND);
    assert_eq!(*seen.closed.borrow(), [], "believed, and kept up by pings");
    believed.set(false);
    sim.run_for(6 * SECOND);
    assert_eq!(seen.closed.borrow().len(), 1);
}
