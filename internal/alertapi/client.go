// Package alertapi posts alerts to an Alertmanager elsewhere, by its API v2.
//
// Its main types are Alert and Client, which makes one request to one Alertmanager. When to send, to whom, and what to send again
// is the caller's: internal/notify for alerts of the stream, internal/query/alertmanager for those of rules.
package alertapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	maxShown   = 500     // bytes of an answer that an error shows
	maxDrained = 1 << 20 // bytes of an answer that are read so that its connection can be used again
)

// Alert is one alert of a list that POST /api/v2/alerts takes.
type Alert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"` // in the past: it has ended
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// Client posts alerts to one Alertmanager. Safe for concurrent use.
type Client struct {
	url    string
	client *http.Client
}

// New returns a client of the Alertmanager at a base address, such as http://host:9093, with or without a path. A
// request takes as long as timeout at most.
func New(base string, timeout time.Duration) *Client {
	return &Client{url: strings.TrimSuffix(base, "/") + "/api/v2/alerts", client: &http.Client{Timeout: timeout}}
}

// Post returns nil when the Alertmanager has taken alerts, a JSON list of Alert. header may set
// what the request says beside it. Errors show no password of the address.
func (c *Client) Post(ctx context.Context, alerts []byte, header func(*http.Request)) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(alerts))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	header(request)
	response, err := c.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(response.Body, maxShown))
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxDrained))
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("post alerts to %s: it answers %s: %s", request.URL.Redacted(), response.Status, bytes.TrimSpace(answer))
	}
	return nil
}
