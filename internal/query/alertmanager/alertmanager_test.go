package alertmanager

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
)

// hooks is a receiver of webhooks: one line a notification.
func hooks(t *testing.T) (url string, heard <-chan string) {
	t.Helper()
	lines := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body struct {
			Status string
			Alerts []struct {
				Status string
				Labels map[string]string
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			lines <- err.Error()
			return
		}
		line := body.Status
		for _, a := range body.Alerts {
			line += fmt.Sprintf(" %s:%s", a.Labels["alertname"], a.Status)
		}
		lines <- line
	}))
	t.Cleanup(server.Close)
	return server.URL, lines
}

// mailbox is an SMTP server that takes everything.
func mailbox(t *testing.T) (addr string, mails <-chan string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	got := make(chan string, 10)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go takeMail(connection, got)
		}
	}()
	return listener.Addr().String(), got
}

func takeMail(connection net.Conn, got chan<- string) {
	defer connection.Close()
	lines := bufio.NewScanner(connection)
	say := func(text string) { fmt.Fprintf(connection, "%s\r\n", text) }
	say("220 test")
	for lines.Scan() {
		switch command, _, _ := strings.Cut(strings.ToUpper(lines.Text()), " "); command {
		case "DATA":
			say("354 go on")
			var text strings.Builder
			for lines.Scan() && lines.Text() != "." {
				text.WriteString(lines.Text() + "\n")
			}
			got <- text.String()
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func embedded(t *testing.T, dir string, configs map[tenants.ID]string) *Embedded {
	t.Helper()
	paths := map[tenants.ID]string{}
	for tenant, text := range configs {
		if paths[tenant] = ""; text != "" {
			paths[tenant] = filepath.Join(t.TempDir(), string(tenant)+".yml")
			if err := os.WriteFile(paths[tenant], []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	read, err := Read(paths)
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewEmbedded(dir, "http://vigie.example/alertmanager", slog.New(slog.DiscardHandler))
	if err == nil {
		err = e.Apply(read)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func alerts(ends time.Duration, names ...string) []byte {
	var list []map[string]any
	for _, name := range names {
		list = append(list, map[string]any{
			"labels": map[string]string{"alertname": name, "severity": "page"}, "annotations": map[string]string{"summary": name + " is bad"},
			"startsAt": time.Now().Add(-time.Minute), "endsAt": time.Now().Add(ends),
		})
	}
	text, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	return text
}

func send(t *testing.T, e Target, tenant tenants.ID, alerts []byte) {
	t.Helper()
	if err := e.Send(t.Context(), tenant, alerts); err != nil {
		t.Fatal(err)
	}
}

func (e *Embedded) ask(t *testing.T, tenant tenants.ID, method, path, body string) (int, string) {
	t.Helper()
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	e.ServeHTTP(w, request.WithContext(tenants.NewContext(context.Background(), tenant)))
	text, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(text)
}

func hear(t *testing.T, heard <-chan string, want string) {
	t.Helper()
	select {
	case got := <-heard:
		if got != want {
			t.Fatalf("got notification %q, want %q", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("got no notification, want %q", want)
	}
}

func quiet(t *testing.T, heard <-chan string) {
	t.Helper()
	select {
	case got := <-heard:
		t.Fatalf("got notification %q, want none", got)
	case <-time.After(1500 * time.Millisecond):
	}
}

const routing = `
route: {receiver: hook, group_by: [severity], group_wait: 100ms, group_interval: 300ms, repeat_interval: 1h}
receivers:
  - name: hook
    webhook_configs: [{url: %q}]
`

// An alert is notified once: not again when it is sent again, nor after the process was killed and sends it again, and
// its end too.
func TestWebhookOnceThroughKill(t *testing.T) {
	url, heard := hooks(t)
	dir := t.TempDir()
	configs := map[tenants.ID]string{"acme": fmt.Sprintf(routing, url)}
	e := embedded(t, dir, configs)
	send(t, e, "acme", alerts(time.Hour, "Down"))
	hear(t, heard, "firing Down:firing")
	send(t, e, "acme", alerts(time.Hour, "Down"))
	quiet(t, heard)
	// As after kill -9: the directory as it is now, nothing told to end, a message cut off.
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	e.Close()
	journal, err := os.OpenFile(filepath.Join(copied, "acme", "nflog.journal"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = journal.Write([]byte{200, 1, 10})
	_ = journal.Close()
	e = embedded(t, copied, configs)
	send(t, e, "acme", alerts(time.Hour, "Down"))
	quiet(t, heard)
	send(t, e, "acme", alerts(-time.Second, "Down"))
	hear(t, heard, "resolved Down:resolved")
	e.Close()
	// What was rewritten is read as what was appended.
	e = embedded(t, copied, configs)
	send(t, e, "acme", alerts(time.Hour, "Up"))
	hear(t, heard, "firing Up:firing")
	e.Close()
}

// A silence holds through kill -9, is the tenant's alone, and ends when it is deleted. Inhibition holds, too.
func TestSilencesAndInhibitionByTenant(t *testing.T) {
	url, heard := hooks(t)
	dir := t.TempDir()
	const inhibition = "inhibit_rules: [{source_matchers: [alertname=Region], target_matchers: [alertname=Node]}]\n"
	configs := map[tenants.ID]string{"acme": fmt.Sprintf(routing, url) + inhibition, "demo": ""}
	e := embedded(t, dir, configs)
	now := time.Now().UTC()
	silence := fmt.Sprintf(`{"matchers":[{"name":"alertname","value":"Down","isRegex":false,"isEqual":true}],"startsAt":%q,"endsAt":%q,"createdBy":"me","comment":"test"}`,
		now.Format(time.RFC3339), now.Add(time.Hour).Format(time.RFC3339))
	status, answer := e.ask(t, "acme", "POST", "/api/v2/silences", silence)
	var made struct{ SilenceID string }
	if err := json.Unmarshal([]byte(answer), &made); status != 200 || err != nil || made.SilenceID == "" {
		t.Fatalf("got %d %s", status, answer)
	}
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	e.Close()
	e = embedded(t, copied, configs)
	defer func() { e.Close() }()
	send(t, e, "acme", alerts(time.Hour, "Down", "Region"))
	hear(t, heard, "firing Region:firing")
	send(t, e, "acme", alerts(time.Hour, "Node"))
	send(t, e, "demo", alerts(time.Hour, "Secret"))
	quiet(t, heard)
	f := func(tenant tenants.ID, path, want, never string) {
		t.Helper()
		if status, text := e.ask(t, tenant, "GET", path, ""); status != 200 || !strings.Contains(text, want) || strings.Contains(text, never) {
			t.Errorf("%s of %s: got %d %s, want %s and not %s", path, tenant, status, text, want, never)
		}
	}
	f("acme", "/api/v2/alerts", `"alertname":"Down"`, "Secret")
	f("acme", "/api/v2/alerts/groups", `"alertname":"Region"`, "Secret")
	f("demo", "/api/v2/alerts", `"alertname":"Secret"`, "Down")
	f("demo", "/api/v2/silences", "[]", made.SilenceID)
	f("acme", "/api/v2/silences", made.SilenceID, "Secret")
	f("acme", "/api/v2/status", "receiver", "Secret")
	if status, _ := e.ask(t, "demo", "DELETE", "/api/v2/silence/"+made.SilenceID, ""); status/100 == 2 {
		t.Error("demo deleted a silence of acme")
	}
	if status, text := e.ask(t, "zeta", "GET", "/api/v2/alerts", ""); status != 404 {
		t.Errorf("a tenant without rules: got %d %s, want 404", status, text)
	}
	if status, text := e.ask(t, "acme", "DELETE", "/api/v2/silence/"+made.SilenceID, ""); status != 200 {
		t.Fatalf("delete: got %d %s", status, text)
	}
	select {
	case got := <-heard:
		if !strings.Contains(got, "Down:firing") || strings.Contains(got, "Node") {
			t.Errorf("got %q, want Down and not Node, which Region inhibits", got)
		}
	case <-time.After(time.Minute):
		t.Error("got nothing after the silence was deleted")
	}
}

func TestMail(t *testing.T) {
	addr, mails := mailbox(t)
	text := fmt.Sprintf(`
global: {smtp_smarthost: %q, smtp_from: vigie@example.com, smtp_require_tls: false, smtp_hello: localhost}
route: {receiver: mail, group_wait: 10ms}
receivers:
  - name: mail
    email_configs: [{to: me@example.com, headers: {Subject: '{{ .CommonLabels.alertname }} of {{ .CommonLabels.severity }}'}, text: '{{ range .Alerts }}{{ .Annotations.summary }}{{ end }}', html: ''}]
`, addr)
	e := embedded(t, t.TempDir(), map[tenants.ID]string{"acme": text})
	defer e.Close()
	send(t, e, "acme", alerts(time.Hour, "Down"))
	select {
	case mail := <-mails:
		for _, want := range []string{"Subject: Down of page", "To: me@example.com", "Down is bad"} {
			if !strings.Contains(mail, want) {
				t.Errorf("got %s, want %q in it", mail, want)
			}
		}
	case <-time.After(time.Minute):
		t.Fatal("got no mail")
	}
}

// One of several Alertmanagers is enough; all are asked, with the tenant.
func TestExternal(t *testing.T) {
	asked := make(chan string, 10)
	good := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		asked <- r.URL.Path + " " + r.Header.Get("X-Scope-OrgID") + " " + string(text)
	}))
	defer good.Close()
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no room", http.StatusServiceUnavailable)
	}))
	defer bad.Close()
	send(t, NewExternal([]string{bad.URL, good.URL + "/"}, time.Second), "acme", []byte("[]"))
	if got := <-asked; got != "/api/v2/alerts acme []" {
		t.Errorf("got %s", got)
	}
	err := NewExternal([]string{bad.URL}, time.Second).Send(t.Context(), "acme", []byte("[]"))
	if err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "no room") {
		t.Errorf("got %v, want what the Alertmanager said", err)
	}
}

func TestReadRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "am.yml")
	if err := os.WriteFile(path, []byte("route: {receiver: nobody}\nreceivers: [{name: x}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(map[tenants.ID]string{"acme": path}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want the file named", err)
	}
}
