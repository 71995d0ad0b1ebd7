// Renders a chart's templates with the template engine and function library that Helm itself uses, so that a test sees
// the objects as a cluster would. Usage: render CHART_DIRECTORY < VALUES_AND_RELEASE.json > OBJECTS.yaml
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	yaml "gopkg.in/yaml.v3"
)

// files stands for Helm's .Files of one chart.
type files struct{ root string }

func (f files) Get(name string) string {
	content, err := os.ReadFile(filepath.Join(f.root, name))
	if err != nil {
		return ""
	}
	return string(content)
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func readYaml(path string) map[string]interface{} {
	content, err := os.ReadFile(path)
	fail(err)
	parsed := map[string]interface{}{}
	fail(yaml.Unmarshal(content, &parsed))
	return parsed
}

// merge lays over's values upon base's, maps key by key.
func merge(base, over map[string]interface{}) map[string]interface{} {
	for key, value := range over {
		inner, isMap := value.(map[string]interface{})
		old, wasMap := base[key].(map[string]interface{})
		if isMap && wasMap {
			base[key] = merge(old, inner)
		} else {
			base[key] = value
		}
	}
	return base
}

func main() {
	chart := os.Args[1]
	var input struct {
		Values  map[string]interface{}
		Release map[string]interface{}
		Cluster map[string]interface{}
	}
	fail(json.NewDecoder(os.Stdin).Decode(&input))

	root := template.New("chart").Option("missingkey=zero").Funcs(sprig.TxtFuncMap())
	root.Funcs(template.FuncMap{
		"toYaml": func(value interface{}) string {
			var out bytes.Buffer
			encoder := yaml.NewEncoder(&out)
			encoder.SetIndent(2)
			fail(encoder.Encode(value))
			return strings.TrimSuffix(out.String(), "\n")
		},
		"fromYaml": func(text string) map[string]interface{} {
			parsed := map[string]interface{}{}
			fail(yaml.Unmarshal([]byte(text), &parsed))
			return parsed
		},
		// What is in the cluster already, by "kind/namespace/name"; nothing where it is not said, as for `helm template`.
		"lookup": func(_, kind, namespace, name string) map[string]interface{} {
			found, _ := input.Cluster[kind+"/"+namespace+"/"+name].(map[string]interface{})
			return found
		},
		"include": func(name string, data interface{}) (string, error) {
			var out bytes.Buffer
			err := root.ExecuteTemplate(&out, name, data)
			return out.String(), err
		},
	})

	paths, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	fail(err)
	sort.Strings(paths)
	for _, path := range paths {
		content, err := os.ReadFile(path)
		fail(err)
		template.Must(root.New(filepath.Base(path)).Parse(string(content)))
	}

	meta := map[string]interface{}{}
	for key, value := range readYaml(filepath.Join(chart, "Chart.yaml")) {
		meta[strings.ToUpper(key[:1])+key[1:]] = value
	}
	data := map[string]interface{}{
		"Values":  merge(readYaml(filepath.Join(chart, "values.yaml")), input.Values),
		"Release": input.Release,
		"Chart":   meta,
		"Files":   files{chart},
	}
	for _, path := range paths {
		if strings.HasSuffix(path, ".tpl") {
			continue
		}
		fmt.Println("---")
		fail(root.ExecuteTemplate(os.Stdout, filepath.Base(path), data))
	}
}
