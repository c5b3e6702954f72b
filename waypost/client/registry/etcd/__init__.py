"""etcd as a registry: leases kept alive, key layouts of its own and of Kitex, watches that go on after a cut."""
