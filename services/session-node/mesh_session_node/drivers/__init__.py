"""Networks behind one interface. Each folder beside `interface` is one network; `registry` lists them."""
