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

// A unit is some rows that are read at once. All that exist of them are in it, unless it is partial.
type unit struct {
	name string
	rows map[string][]byte
	size int
	// Only what was written is in it, nil for what was deleted: it had been let go before, or was never read.
	partial bool
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
		if u := c.whole(name); u != nil {
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
	if err == nil && c.whole(name) == nil {
		c.fill(name, rows)
	}
	return err
}

// whole is a unit that may be looked at, nil when it must be read first. Called with the lock.
func (c *cache) whole(name string) *unit {
	u := c.units[name]
	if u == nil || u.partial {
		return nil
	}
	c.order.MoveToFront(u.used)
	return u
}

// fill puts a unit as it is stored, but for what was written since: that is newer. Called with the lock.
func (c *cache) fill(name string, rows map[string][]byte) {
	u := c.units[name]
	if u == nil {
		u = c.put(name)
	}
	c.order.MoveToFront(u.used)
	for key, stored := range rows {
		value := stored
		if _, written := u.rows[key]; written {
			continue
		}
		if isRatchet(key) {
			if value = decodeRatchet(key, stored); value == nil {
				continue
			}
		}
		c.set(u, Change{key, value})
	}
	u.partial = false
	for key, value := range u.rows {
		if value == nil {
			c.set(u, Change{key, nil})
		}
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
		if u := c.whole(name); u != nil {
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
			if c.whole(name) == nil {
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

// apply makes changes visible and pins them until unpin.
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

// isCached says whether a row may be kept in memory. One-time keys are not, nor secrets of messages, nor the places
// of people: of many hundred one is used now and then, and nobody asks for one that is not stored yet.
func isCached(key string) bool {
	return !strings.HasPrefix(key, preKeyPrefix) && !strings.HasPrefix(key, peoplePrefix) && !strings.HasPrefix(key, recentPrefix) && !strings.HasPrefix(key, secretPrefix)
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
		u.partial = u.name != key
	}
	return u
}

func (c *cache) set(u *unit, change Change) {
	grown := 0
	if old, exists := u.rows[change.Key]; exists {
		grown -= len(change.Key) + len(old)
		delete(u.rows, change.Key)
	}
	if change.Value != nil || u.partial {
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

// takeBack undoes changes that were applied: what is stored is read again, unless it is changed just now.
func (c *cache) takeBack(changes []Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, change := range changes {
		if u := c.units[unitOf(change.Key)]; u != nil {
			if u.pinned--; u.pinned == 0 {
				c.drop(u)
			}
		}
	}
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
