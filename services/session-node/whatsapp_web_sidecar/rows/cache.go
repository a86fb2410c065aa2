package rows

import (
	"container/list"
	"context"
	"slices"
	"strings"
	"sync"
)

// maxCached bounds what is kept in memory of one device, in bytes; what is not stored yet is kept beyond it.
const maxCached = 96 << 10

// A unit is some rows that are read at once. All that exist of them are in it.
type unit struct {
	name string
	rows map[string][]byte
	size int
	// How many changes of it are not settled: as long as there are, what can be read may be older.
	pinned int
	// Up to where positions of its ratchets may be used without being stored.
	leases map[string]lease
	used   *list.Element
}

// cache keeps the units that were used last.
type cache struct {
	mu      sync.Mutex
	node    Node
	units   map[string]*unit
	order   *list.List
	size    int
	loading map[string]chan struct{}
}

func newCache(node Node) *cache {
	return &cache{node: node, units: map[string]*unit{}, order: list.New(), loading: map[string]chan struct{}{}}
}

// get returns a row, nil when there is none. The value must not be changed.
func (c *cache) get(ctx context.Context, key string) ([]byte, error) {
	var value []byte
	err := c.with(ctx, unitOf(key), func(u *unit) { value = u.rows[key] })
	return value, err
}

// with runs f on a unit, which it loads first where it has to; under the lock.
func (c *cache) with(ctx context.Context, name string, f func(*unit)) error {
	for {
		c.mu.Lock()
		if u := c.units[name]; u != nil {
			c.order.MoveToFront(u.used)
			f(u)
			c.mu.Unlock()
			return nil
		}
		done := c.loading[name]
		if done == nil {
			done = make(chan struct{})
			c.loading[name] = done
			c.mu.Unlock()
			if err := c.load(ctx, name, done); err != nil {
				return err
			}
			continue
		}
		c.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *cache) load(ctx context.Context, name string, done chan struct{}) error {
	keys, prefixes := splitUnits([]string{name})
	rows, err := c.node.Read(ctx, keys, prefixes)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.loading, name)
	close(done)
	if err == nil && c.units[name] == nil { // written meanwhile: what was read is older
		c.fill(name, rows)
	}
	return err
}

// fill puts a unit as it is stored. Called with the lock.
func (c *cache) fill(name string, rows map[string][]byte) {
	u := c.put(name)
	for key, stored := range rows {
		value := stored
		if isRatchet(key) {
			if value = decodeRatchet(key, stored); value == nil {
				continue
			}
		}
		u.rows[key] = value
		u.size += len(key) + len(value)
		c.size += len(key) + len(value)
	}
	c.evict()
}

func (c *cache) put(name string) *unit {
	u := &unit{name: name, rows: map[string][]byte{}}
	u.used = c.order.PushFront(u)
	c.units[name] = u
	return u
}

// unitsAtOnce is how many units one question asks for.
const unitsAtOnce = 32

// together runs f on several units, under the lock; in any order. They may be more than fit into memory: those of the
// devices of a large group.
func (c *cache) together(ctx context.Context, names []string, f func(*unit)) error {
	missing := make([]string, 0, len(names))
	c.mu.Lock()
	for _, name := range names {
		if u := c.units[name]; u != nil {
			c.order.MoveToFront(u.used)
			f(u)
		} else {
			missing = append(missing, name)
		}
	}
	c.mu.Unlock()
	for some := range slices.Chunk(missing, unitsAtOnce) {
		keys, prefixes := splitUnits(some)
		rows, err := c.node.Read(ctx, keys, prefixes)
		if err != nil {
			return err
		}
		of := make(map[string]map[string][]byte, len(some))
		for key, value := range rows {
			name := unitOf(key)
			if of[name] == nil {
				of[name] = map[string][]byte{}
			}
			of[name][key] = value
		}
		c.mu.Lock()
		for _, name := range some {
			if c.units[name] == nil { // else it was written meanwhile: what was read is older
				c.fill(name, of[name])
			}
			f(c.units[name])
		}
		c.mu.Unlock()
	}
	return nil
}

// splitUnits are the rows, and the beginnings of rows, that units consist of.
func splitUnits(names []string) (keys, prefixes []string) {
	for _, name := range names {
		if strings.HasSuffix(name, "/") {
			prefixes = append(prefixes, name)
		} else {
			keys = append(keys, name)
		}
	}
	return keys, prefixes
}

// apply makes changes visible and pins them until unpin. Units that are read by their names' beginning are loaded
// already: whoever changes them looked first.
func (c *cache) apply(changes []Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, change := range changes {
		if !isCached(change.Key) {
			continue
		}
		u := c.unit(change.Key)
		u.pinned++
		c.set(u, change)
	}
}

// isCached says whether a row may be kept in memory. One-time keys are not, nor secrets of messages: of many hundred one is
// used now and then, and nobody asks for one that is not stored yet.
func isCached(key string) bool {
	return !strings.HasPrefix(key, preKeyPrefix) && !strings.HasPrefix(key, recentPrefix) && !strings.HasPrefix(key, secretPrefix)
}

// remember makes changes visible that are within what is stored already.
func (c *cache) remember(changes []Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, change := range changes {
		c.set(c.unit(change.Key), change)
	}
}

func (c *cache) unit(key string) *unit {
	u := c.units[unitOf(key)]
	if u == nil {
		u = c.put(unitOf(key))
	}
	return u
}

func (c *cache) set(u *unit, change Change) {
	grown := 0
	if old, exists := u.rows[change.Key]; exists {
		grown -= len(change.Key) + len(old)
		delete(u.rows, change.Key)
	}
	if change.Value != nil {
		grown += len(change.Key) + len(change.Value)
		u.rows[change.Key] = change.Value
	}
	u.size += grown
	c.size += grown
}

// unpin says that changes are settled.
func (c *cache) unpin(changes []Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, change := range changes {
		if u := c.units[unitOf(change.Key)]; u != nil && isCached(change.Key) {
			u.pinned--
		}
	}
	c.evict()
}

func (c *cache) evict() {
	// Never the one that was used last: whoever loaded it is about to look.
	for element := c.order.Back(); element != c.order.Front() && c.size > maxCached; {
		u, previous := element.Value.(*unit), element.Prev()
		// While a unit is read, what was written of it must stay: what comes is older.
		if u.pinned == 0 && u.name != loginPrefix && c.loading[u.name] == nil {
			c.drop(u)
		}
		element = previous
	}
}

func (c *cache) drop(u *unit) {
	c.order.Remove(u.used)
	delete(c.units, u.name)
	c.size -= u.size
}
