package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ErrHelp is returned by Load when the arguments ask for help, which has then been printed.
var ErrHelp = flag.ErrHelp

// ErrNoFlag is a flag that no key has.
var ErrNoFlag = errors.New("no flag")

// Switches are the flags that stand alone; all others take a value.
var Switches = []string{"check-config", "print-config", "h", "help"}

// FlagsHelp says which flags Load takes.
const FlagsHelp = `  -config file     read this YAML file (environment: VIGIE_CONFIG)
  -check-config    check the configuration and end
  -print-config    print the configuration that holds, secrets masked, and end
  -<key>=<value>   override one key of the file, for example -kafka.brokers=127.0.0.1:9092

Every key is also an environment variable (VIGIE_KAFKA_BROKERS). docs/configuration.md explains them all.
`

// AsksForHelp says whether an argument of a command line is -help, in any of its spellings.
func AsksForHelp(arg string) bool {
	return slices.Contains([]string{"-h", "--h", "-help", "--help"}, arg)
}

// Action is what the command line asks for beside running.
type Action int

// Actions.
const (
	Run   Action = iota // start the service
	Check               // -check-config: validate and end
	Print               // -print-config: print what holds, secrets masked, and end
)

// Loaded is the outcome of Load.
type Loaded struct {
	Config Config
	Action Action
}

// Load puts a configuration together: defaults, then the file named by -config (or VIGIE_CONFIG), then VIGIE_…
// environment variables, then flags named like the keys (-kafka.brokers=…). All wrong keys and values are
// reported at once. It wants nothing but flags in args. name is the program's name for its help text, which goes to w.
func Load(name string, args, environ []string, w io.Writer) (Loaded, error) {
	loaded := Loaded{Config: Default()}
	all := leaves(reflect.ValueOf(&loaded.Config).Elem(), "")
	flags, given := newFlags(name, all)
	switch err := flags.set.Parse(args); {
	case errors.Is(err, ErrHelp):
		fmt.Fprintf(w, "usage: %s [flags]\n\n%s", name, FlagsHelp)
		return loaded, err
	case err != nil:
		return loaded, explainFlag(err, all)
	case flags.set.NArg() > 0:
		return loaded, fmt.Errorf("argument %q is not a flag: a file is given as -config file, a key as -<key>=<value>",
			flags.set.Arg(0))
	}
	env := environment(environ)
	path := flags.path
	if path == "" {
		path = env["VIGIE_CONFIG"]
	}
	if path != "" {
		if err := readFile(path, &loaded.Config); err != nil {
			return loaded, err
		}
	}
	errs := []error{applyEnvironment(all, env), applyFlags(all, given)}
	if err := errors.Join(errs...); err != nil {
		return loaded, err
	}
	switch {
	case flags.check:
		loaded.Action = Check
	case flags.print:
		loaded.Action = Print
	}
	return loaded, loaded.Config.Validate()
}

type flagSet struct {
	set          *flag.FlagSet
	path         string
	check, print bool
}

// newFlags defines one flag a leaf; given collects the values that were spelled out, in order.
func newFlags(name string, all []leaf) (*flagSet, *[][2]string) {
	f := &flagSet{set: flag.NewFlagSet(name, flag.ContinueOnError)}
	given := &[][2]string{}
	f.set.SetOutput(io.Discard)
	f.set.StringVar(&f.path, "config", "", "")
	f.set.BoolVar(&f.check, "check-config", false, "")
	f.set.BoolVar(&f.print, "print-config", false, "")
	for _, l := range all {
		f.set.Func(l.path, "", func(text string) error {
			*given = append(*given, [2]string{l.path, text})
			return nil
		})
	}
	return f, given
}

// explainFlag names the key that is near to a flag that does not exist.
func explainFlag(err error, all []leaf) error {
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return err
	}
	names := []string{"config", "check-config", "print-config"}
	for _, l := range all {
		names = append(names, l.path)
	}
	if near := Nearest(name, names); near != "" {
		return fmt.Errorf("%w -%s; did you mean -%s?", ErrNoFlag, name, near)
	}
	return fmt.Errorf("%w -%s; -print-config lists the keys, which are flags", ErrNoFlag, name)
}

func environment(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, entry := range environ {
		if key, value, ok := strings.Cut(entry, "="); ok {
			env[key] = value
		}
	}
	return env
}

func readFile(path string, into *Config) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if err := parse(text, into, ""); err != nil {
		return fmt.Errorf("configuration %s: %w", path, err)
	}
	return nil
}

// parse reads one YAML document into a Config, or into one value of it that is called path.
func parse(text []byte, into any, path string) error {
	var node, second yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&node); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return err
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return errors.Join(fmt.Errorf("line %d: a second document: want one", max(second.Line, node.Line+1)), err)
	}
	if errs := mistakes(&node, reflect.TypeOf(into).Elem(), path); len(errs) > 0 {
		return errors.Join(errs...)
	}
	return node.Decode(into)
}

// other environment variables that begin with VIGIE_ and are not configuration keys: those of tools, `vigie sql` and
// deploy/grafana among them, which stand in the same shell. One that ends in _ is a family.
var reserved = []string{
	"VIGIE_CONFIG", "VIGIE_CACHE_DIR", "VIGIE_TEST_", "VIGIE_DEVSTACK_", "VIGIE_CLICKHOUSE_LIB", "VIGIE_BENCH_",
	"VIGIE_KEY", "VIGIE_KEY_", "VIGIE_URL", "VIGIE_QUERY_HOST", "VIGIE_QUERY_PORT", "VIGIE_GRAFANA_DASHBOARDS",
}

func isReserved(name string) bool {
	return slices.ContainsFunc(reserved,
		func(r string) bool { return name == r || strings.HasSuffix(r, "_") && strings.HasPrefix(name, r) })
}

func applyEnvironment(all []leaf, env map[string]string) error {
	known := map[string]leaf{}
	names := make([]string, 0, len(all))
	for _, l := range all {
		known[l.env()] = l
		names = append(names, l.env())
	}
	var errs []error
	for _, key := range slices.Sorted(func(yield func(string) bool) {
		for key := range env {
			if strings.HasPrefix(key, "VIGIE_") && !yield(key) {
				return
			}
		}
	}) {
		l, ok := known[key]
		switch {
		case ok:
			if err := l.set(env[key]); err != nil {
				errs = append(errs, fmt.Errorf("environment variable %s: %w", key, l.hide(err)))
			}
		case isReserved(key):
		default:
			err := fmt.Errorf("environment variable %s: no such key", key)
			if near := Nearest(key, names); near != "" {
				err = fmt.Errorf("%w; did you mean %s?", err, near)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func applyFlags(all []leaf, given *[][2]string) error {
	var errs []error
	for _, pair := range *given {
		i := slices.IndexFunc(all, func(l leaf) bool { return l.path == pair[0] })
		if err := all[i].set(pair[1]); err != nil {
			errs = append(errs, fmt.Errorf("flag -%s: %w", pair[0], all[i].hide(err)))
		}
	}
	return errors.Join(errs...)
}

// hide keeps a secret's text out of the error about it.
func (l leaf) hide(err error) error {
	if strings.Contains(l.value.Type().String(), "Secret") {
		return errors.New("not a valid secret")
	}
	return err
}

// YAML is the configuration as a file would spell it, secrets masked.
func (c *Config) YAML() []byte {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(c); err != nil {
		panic("BUG: configuration does not marshal: " + err.Error())
	}
	return out.Bytes()
}
