package demo

import "time"

// The services of the shop.
const (
	frontend = iota
	catalog
	search
	recommendation
	cart
	checkout
	payment
	shipping
	services
)

var serviceNames = [services]string{"frontend", "catalog", "search", "recommendation", "cart", "checkout", "payment", "shipping"}

// instances of every service; a deploy replaces one after the other.
const instances = 3

// operation is a route of a service and what it does.
type operation struct {
	service       int
	method, route string
	own           time.Duration // median of its own work, without that of others
	spread        float64       // sigma of its lognormal
	fails         float64       // share that fails by itself, 5xx
	refuses       float64       // share that is the caller's fault, 4xx
	calls         []call
}

// call is one dependency: another operation of the shop, or something outside that is only seen from the client's side.
type call struct {
	to       *operation
	outside  string // peer, when to is nil
	name     string // of the client span, when to is nil
	took     time.Duration
	fails    float64
	chance   float64 // how often the operation makes this call
	optional bool    // its failure does not fail the caller
}

// entry is a route of the frontend with its share of the visits.
type entry struct {
	share float64
	op    *operation
}

// entries is the whole shop, seen from its visitors. The shares add up to 1.
var entries = build()

func build() []entry {
	ms := func(f float64) time.Duration { return time.Duration(f * float64(time.Millisecond)) }
	postgres := func(name string, took float64) call {
		return call{outside: "postgres", name: name, took: ms(took), fails: 0.0002, chance: 1}
	}
	redis := func(name string) call {
		return call{outside: "redis", name: name, took: ms(0.4), fails: 0.0001, chance: 1}
	}
	always := func(op *operation) call { return call{to: op, chance: 1} }
	maybe := func(chance float64, op *operation) call { return call{to: op, chance: chance, optional: true} }

	products := &operation{service: catalog, method: "GET", route: "/products", own: ms(4), spread: 0.4, fails: 0.0005, calls: []call{postgres("SELECT products", 3)}}
	product := &operation{service: catalog, method: "GET", route: "/products/{id}", own: ms(2), spread: 0.4, fails: 0.0005, refuses: 0.01, calls: []call{postgres("SELECT product", 1.2)}}
	query := &operation{service: search, method: "GET", route: "/query", own: ms(12), spread: 0.7, fails: 0.002, refuses: 0.005,
		calls: []call{{outside: "opensearch", name: "search products", took: ms(25), fails: 0.001, chance: 1}}}
	recommend := &operation{service: recommendation, method: "GET", route: "/recommendations", own: ms(18), spread: 0.6, fails: 0.004,
		calls: []call{redis("GET recommendations"), maybe(0.3, product)}}
	viewCart := &operation{service: cart, method: "GET", route: "/cart", own: ms(1), spread: 0.3, fails: 0.0003, calls: []call{redis("HGETALL cart")}}
	addToCart := &operation{service: cart, method: "POST", route: "/cart/items", own: ms(1.5), spread: 0.3, fails: 0.0005, refuses: 0.01, calls: []call{redis("HSET cart"), always(product)}}
	charge := &operation{service: payment, method: "POST", route: "/charges", own: ms(8), spread: 0.4, fails: 0.002, refuses: 0.03,
		calls: []call{{outside: "bank", name: "POST /authorize", took: ms(140), fails: 0.004, chance: 1}}}
	ship := &operation{service: shipping, method: "POST", route: "/shipments", own: ms(6), spread: 0.5, fails: 0.001,
		calls: []call{postgres("INSERT shipment", 2.5), {outside: "carrier", name: "GET /rates", took: ms(60), fails: 0.01, chance: 0.8, optional: true}}}
	order := &operation{service: checkout, method: "POST", route: "/orders", own: ms(10), spread: 0.4, fails: 0.001,
		calls: []call{always(viewCart), always(charge), always(ship), postgres("INSERT order", 4)}}

	page := func(method, route string, own float64, calls ...call) *operation {
		return &operation{service: frontend, method: method, route: route, own: ms(own), spread: 0.5, fails: 0.0005, refuses: 0.002, calls: calls}
	}
	return []entry{
		{0.30, page("GET", "/", 6, always(products), maybe(0.7, recommend), maybe(0.5, viewCart))},
		{0.35, page("GET", "/product/{id}", 5, always(product), maybe(0.9, recommend))},
		{0.15, page("GET", "/search", 4, always(query))},
		{0.14, page("POST", "/cart", 3, always(addToCart))},
		{0.06, page("POST", "/checkout", 7, always(order))},
	}
}
