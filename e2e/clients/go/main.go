// Plays the scenarios of ../clients.json with github.com/nshafer/phx: `clients 1.0` or `clients 2.0`, the version of the protocol. See
// `Run.drive` in ../../js/lib/stage.mjs.
//
// The library calls each callback in a goroutine of its own, so that the order of messages is not known here. It may miss a reply that
// comes while a callback for it is added: callbacks are added before where that can be, and a push is said again. It keeps its
// channels in a map without a lock: channels are made before anything is said on their socket.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"sort"
	"strings"
	"time"

	"github.com/nshafer/phx"
)

const hang = 60 * time.Second

var (
	told struct {
		Run       string            `json:"run"`
		Urls      map[string]string `json:"urls"`
		Scenarios []string          `json:"scenarios"`
	}
	input   = bufio.NewReader(os.Stdin)
	payload = strings.Repeat("0123456789abcdef", 256*64)
)

type object = map[string]any

func say(message object) {
	line, err := json.Marshal(message)
	must(err)
	fmt.Println(string(line))
}

// ask has the stage do something, and returns its answer.
func ask(what string) map[string]string {
	say(object{"ask": what})
	line, err := input.ReadString('\n')
	must(err)
	var answer map[string]string
	must(json.Unmarshal([]byte(line), &answer))
	return answer
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func topic(name string) string {
	return "room:" + told.Run + "-" + name
}

func equal(got, wanted any) {
	if !reflect.DeepEqual(got, wanted) {
		panic(fmt.Sprintf("got %.200v instead of %.200v", got, wanted))
	}
}

func take[T any](from chan T, what string) T {
	select {
	case item := <-from:
		return item
	case <-time.After(hang):
		panic("waited in vain for " + what)
	}
}

// player is one scenario's part, with the sockets that it opened.
type player struct {
	version string
	sockets []*phx.Socket
}

// client is a connection, and what its callbacks say.
type client struct {
	socket *phx.Socket
	ended  chan error
}

func (p *player) client(name string, header http.Header, heartbeat time.Duration, topics ...string) (client, []*member) {
	endpoint, err := url.Parse(told.Urls[name])
	must(err)
	one := client{phx.NewSocket(endpoint), make(chan error, 1000)}
	one.socket.RequestHeader = header
	one.socket.HeartbeatInterval = heartbeat
	if p.version == "1.0" {
		one.socket.Serializer = phx.NewJSONSerializerV1()
	}
	opened := make(chan bool, 1000)
	one.socket.OnOpen(func() { opened <- true })
	one.socket.OnClose(func() { one.ended <- nil })
	one.socket.OnError(func(err error) { one.ended <- err })
	members := make([]*member, len(topics))
	for n, topic := range topics {
		members[n] = listen(one.socket, topic)
	}
	must(one.socket.Connect())
	p.sockets = append(p.sockets, one.socket)
	take(opened, "the connection")
	return one, members
}

func (p *player) end() {
	for _, socket := range p.sockets {
		_ = socket.Disconnect()
	}
}

// members are clients of the node in dev mode, each with a connection of its own, in one room.
func (p *player) members(count int, name string, url string) []*member {
	all := make([]*member, count)
	for n := range all {
		_, own := p.client(url, nil, hang, topic(name))
		all[n] = own[0]
		all[n].join()
	}
	return all
}

// member is a client in one room.
type member struct {
	channel *phx.Channel
	heard   chan any
	joins   chan answer
	closed  chan bool
}

type answer struct {
	status   string
	response any
}

func listen(socket *phx.Socket, topic string) *member {
	m := &member{
		channel: socket.Channel(topic, map[string]string{}),
		heard:   make(chan any, 1000),
		joins:   make(chan answer, 1000),
		closed:  make(chan bool, 1000),
	}
	m.channel.PushTimeout = 2 * time.Second
	m.channel.On("n", func(payload any) { m.heard <- payload })
	// The client calls these for each join that it makes by itself, too, and when it knows itself that it has joined.
	m.channel.OnJoin(func(response any) { m.joins <- answer{"ok", response} })
	m.channel.OnClose(func(any) { m.closed <- true })
	return m
}

func receive(push *phx.Push, answers chan answer, statuses ...string) {
	for _, status := range statuses {
		push.Receive(status, func(response any) { answers <- answer{status, response} })
	}
}

func (m *member) tryJoin() answer {
	push, err := m.channel.Join()
	must(err)
	// The client joins again after a refusal that was missed.
	receive(push, m.joins, "error")
	return take(m.joins, "the join of "+m.channel.Topic())
}

func (m *member) join() {
	equal(m.tryJoin().status, "ok")
}

// back waits until the client has joined again by itself. When its goroutines are late, the library may take the end of a connection
// for that of the next one, and waits for nothing then: the application has to join.
func (m *member) back() {
	for range 20 {
		select {
		case got := <-m.joins:
			equal(got.status, "ok")
			return
		case <-time.After(3 * time.Second):
			if push, err := m.channel.Join(); err == nil {
				receive(push, m.joins, "error")
			}
		}
	}
	panic("waited in vain for the join after the connection broke")
}

func (m *member) cast(event string, payload any) {
	_, err := m.channel.Push(event, payload)
	must(err)
}

// push says an event again when there is no answer.
func (m *member) push(event string, payload any) answer {
	for range 20 {
		push, err := m.channel.Push(event, payload)
		must(err)
		answers := make(chan answer, 2)
		receive(push, answers, "ok", "error")
		select {
		case got := <-answers:
			return got
		case <-time.After(m.channel.PushTimeout):
		}
	}
	panic("no reply to " + event)
}

func (m *member) hear() any {
	return take(m.heard, "a message")
}

func numbered(n int) object {
	return object{"n": float64(n)}
}

// heardAll has the numbers of all messages that came.
func (m *member) heardAll(count int) []float64 {
	numbers := make([]float64, count)
	for n := range numbers {
		numbers[n] = m.hear().(object)["n"].(float64)
	}
	sort.Float64s(numbers)
	equal(len(m.heard), 0)
	return numbers
}

func bearer(token string) http.Header {
	return http.Header{"Authorization": {"Bearer " + token}}
}

var scenarios = map[string]func(*player){
	"join granted": func(p *player) { p.members(1, "granted", "node") },

	"join refused": func(p *player) {
		_, members := p.client("node", nil, hang, "room:denied", "nowhere:1")
		for n, reason := range []string{"unauthorized", "unmatched topic"} {
			equal(members[n].tryJoin(), answer{"error", object{"reason": reason}})
		}
	},

	"push with reply": func(p *player) {
		m := p.members(1, "reply", "node")[0]
		payload := object{"text": "Grüße, 世界 🎉", "list": []any{1.5, nil, object{"deep": true}}}
		equal(m.push("echo", payload), answer{"ok", payload})
		equal(m.push("echo_error", object{"why": "x"}), answer{"error", object{"why": "x"}})
	},

	"broadcast": func(p *player) {
		from := p.members(1, "broadcast", "node")[0]
		_, others := p.client("node", nil, hang, topic("broadcast"), topic("elsewhere"))
		others[0].join()
		others[1].join()
		numbers := make([]float64, 20)
		for n := range numbers {
			numbers[n] = float64(n)
			from.cast("n", numbered(n))
		}
		equal(from.heardAll(20), numbers)
		equal(others[0].heardAll(20), numbers)
		equal(len(others[1].heard), 0)
	},

	"forty topics": func(p *player) {
		topics := make([]string, 40)
		for n := range topics {
			topics[n] = topic(fmt.Sprint("forty-", n))
		}
		_, members := p.client("node", nil, hang, topics...)
		for _, m := range members {
			m.join()
		}
		for n, m := range members {
			m.cast("n", numbered(n))
		}
		for n, m := range members {
			equal(m.push("echo", numbered(n)), answer{"ok", numbered(n)})
		}
		for n, m := range members {
			equal(m.heardAll(1), []float64{float64(n)})
		}
	},

	"leave": func(p *player) {
		members := p.members(2, "leave", "node")
		leaver, stayer := members[0], members[1]
		_, err := leaver.channel.Leave()
		must(err)
		take(leaver.closed, "the end of the channel")
		stayer.cast("n", numbered(1))
		equal(stayer.heardAll(1), []float64{1})
		for !leaver.channel.IsClosed() {
			time.Sleep(time.Millisecond)
		}
		leaver.join()
		stayer.cast("n", numbered(2))
		equal(leaver.heardAll(1), []float64{2})
	},

	"thirty reconnects": func(p *player) {
		m := p.members(1, "thirty", "relay")[0]
		for n := range 30 {
			ask("cut")
			m.back()
			equal(m.push("echo", numbered(n)), answer{"ok", numbered(n)})
		}
	},

	"network drop": func(p *player) {
		one, members := p.client("relay", nil, hang, topic("drop"))
		members[0].join()
		other := p.members(1, "drop", "node")[0]
		ask("down")
		take(one.ended, "the end of the connection")
		other.cast("n", numbered(1))
		other.hear()
		ask("up")
		members[0].back()
		other.cast("n", numbered(2))
		equal(members[0].heardAll(1), []float64{2})
	},

	"silent network": func(p *player) {
		_, members := p.client("relay", nil, 200*time.Millisecond, topic("silence"))
		members[0].join()
		ask("silence")
		members[0].back()
		equal(members[0].push("echo", object{}), answer{"ok", object{}})
	},

	"token refresh": func(p *player) {
		tokens := ask("tokens")
		one, members := p.client("tokens", bearer(tokens["short"]), hang, topic("token"))
		members[0].join()
		members[0].cast("access_token", object{"access_token": tokens["long"]})
		ask("expired")
		equal(members[0].push("send", object{}).status, "ok")
		equal(len(one.ended), 0)
	},

	"token at a reconnect": func(p *player) {
		tokens := ask("tokens")
		header := bearer(tokens["short"])
		_, members := p.client("tokens", header, hang, topic("renewed"))
		members[0].join()
		header.Set("Authorization", "Bearer "+tokens["long"])
		members[0].back()
		equal(members[0].push("send", object{}).status, "ok")
	},

	"256 KB payload": func(p *player) {
		members := p.members(2, "large", "tokens")
		equal(members[0].push("echo", object{"text": payload}), answer{"ok", object{"text": payload}})
		members[0].cast("n", object{"text": payload})
		equal(members[1].hear(), object{"text": payload})
	},
}

// play returns why the scenario failed, or nil.
func play(scenario, version string) (why any) {
	p := &player{version: version}
	defer p.end()
	defer func() {
		if failure := recover(); failure != nil {
			why = fmt.Sprint(failure)
		}
	}()
	scenarios[scenario](p)
	return nil
}

func main() {
	must(json.Unmarshal([]byte(os.Getenv("STAGE")), &told))
	for _, scenario := range told.Scenarios {
		say(object{"scenario": scenario, "why": play(scenario, os.Args[1])})
	}
}
