package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// alertmanager is one Alertmanager, by its API v2.
type alertmanager struct {
	cfg    *Config
	url    string
	client *http.Client
}

func newAlertmanager(cfg *Config, url string) *alertmanager {
	return &alertmanager{cfg: cfg, url: strings.TrimSuffix(url, "/") + "/api/v2/alerts",
		client: &http.Client{Timeout: cfg.Timeout}}
}

// post returns nil when the Alertmanager has taken the alerts.
func (a *alertmanager) post(ctx context.Context, alerts []posted) error {
	body, err := json.Marshal(alerts)
	if err != nil {
		return fmt.Errorf("encode %d alerts: %w", len(alerts), err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("send alerts to %s: %w", a.url, err)
	}
	request.Header.Set("Content-Type", "application/json")
	switch {
	case a.cfg.Token != "":
		request.Header.Set("Authorization", "Bearer "+a.cfg.Token.Reveal())
	case a.cfg.Username != "":
		request.SetBasicAuth(a.cfg.Username, a.cfg.Password.Reveal())
	}
	response, err := a.client.Do(request)
	if err != nil {
		return fmt.Errorf("send %d alerts: %w", len(alerts), err)
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(response.Body, 500))
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20))
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("send %d alerts to %s: it answers %s: %s", len(alerts), a.url, response.Status, bytes.TrimSpace(answer))
	}
	return nil
}
