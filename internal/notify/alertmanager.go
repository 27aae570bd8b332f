package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/vigie-io/vigie/internal/alertapi"
)

// alertmanager is one Alertmanager, with the credentials that it wants.
type alertmanager struct {
	cfg    *Config
	client *alertapi.Client
}

func newAlertmanager(cfg *Config, url string) *alertmanager {
	return &alertmanager{cfg: cfg, client: alertapi.New(url, cfg.Timeout)}
}

// post returns nil when the Alertmanager has taken the alerts.
func (a *alertmanager) post(ctx context.Context, alerts []alertapi.Alert) error {
	body, err := json.Marshal(alerts)
	if err != nil {
		return fmt.Errorf("encode %d alerts: %w", len(alerts), err)
	}
	if err := a.client.Post(ctx, body, a.authorize); err != nil {
		return fmt.Errorf("send %d alerts: %w", len(alerts), err)
	}
	return nil
}

func (a *alertmanager) authorize(request *http.Request) {
	switch {
	case a.cfg.Token != "":
		request.Header.Set("Authorization", "Bearer "+a.cfg.Token.Reveal())
	case a.cfg.Username != "":
		request.SetBasicAuth(a.cfg.Username, a.cfg.Password.Reveal())
	}
}
