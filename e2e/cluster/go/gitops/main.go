// Command gitops looks at objects as GitOps tools do: by Argo CD's own diff library, by the Lua interpreter that Argo CD evaluates
// health scripts in, and by Flux's own evaluator of health expressions. It reads JSON from standard input and writes JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/diff"
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// manager is the field manager of Argo CD.
const manager = "argocd-controller"

// scriptTime bounds a health script, as Argo CD does.
const scriptTime = time.Second

// comparison is a manifest beside what is in the cluster. Predicted is what a server-side apply would make of it.
type comparison struct {
	Config    *unstructured.Unstructured `json:"config"`
	Live      *unstructured.Unstructured `json:"live"`
	Predicted json.RawMessage            `json:"predicted"`
}

// difference is empty when Argo CD sees none.
type difference struct {
	Modified  bool   `json:"modified"`
	Live      string `json:"live,omitempty"`
	Predicted string `json:"predicted,omitempty"`
}

// health asks for the health of objects.
type health struct {
	Lua     string                           `json:"lua"`
	Flux    kustomize.HealthCheckExpressions `json:"flux"`
	Objects []*unstructured.Unstructured     `json:"objects"`
}

// verdict is what the tools say of one object.
type verdict struct {
	Argo    string `json:"argo"`
	Message string `json:"message"`
	Flux    string `json:"flux"`
	Kstatus string `json:"kstatus"`
}

// dryRun answers what kubectl said of a server-side apply.
type dryRun string

func (said dryRun) Run(context.Context, *unstructured.Unstructured, string) (string, error) {
	return string(said), nil
}

func differences(asked comparison) (map[string]difference, error) {
	ways := map[string][]diff.Option{
		"client": {diff.WithManager(manager)},
		"server": {
			diff.WithManager(manager), diff.WithServerSideDiff(true), diff.WithIgnoreMutationWebhook(false),
			diff.WithServerSideDryRunner(dryRun(asked.Predicted)),
		},
	}
	found := map[string]difference{}
	for way, options := range ways {
		result, err := diff.Diff(asked.Config, asked.Live, options...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", way, err)
		}
		found[way] = difference{Modified: result.Modified}
		if result.Modified {
			found[way] = difference{true, string(result.NormalizedLive), string(result.PredictedLive)}
		}
	}
	return found, nil
}

// toLua gives a script an object as Argo CD does: numbers are floats, and lists begin at 1.
func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case float64:
		return lua.LNumber(value)
	case int64:
		return lua.LNumber(value)
	case string:
		return lua.LString(value)
	case []any:
		list := state.CreateTable(len(value), 0)
		for _, item := range value {
			list.Append(toLua(state, item))
		}
		return list
	case map[string]any:
		table := state.CreateTable(0, len(value))
		for key, item := range value {
			table.RawSetString(key, toLua(state, item))
		}
		return table
	}
	return lua.LNil
}

// argo runs a health script with the libraries that Argo CD opens for it.
func argo(script string, object *unstructured.Unstructured) (string, string, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	libraries := []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}}
	for _, library := range libraries {
		state.Push(state.NewFunction(library.open))
		state.Push(lua.LString(library.name))
		state.Call(1, 0)
	}
	limit, cancel := context.WithTimeout(context.Background(), scriptTime)
	defer cancel()
	state.SetContext(limit)
	state.SetGlobal("obj", toLua(state, object.Object))
	if err := state.DoString(script); err != nil {
		return "", "", err
	}
	said, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return "", "", fmt.Errorf("the script returns no table")
	}
	return said.RawGetString("status").String(), said.RawGetString("message").String(), nil
}

func verdicts(asked health) ([]verdict, error) {
	evaluator, err := cel.NewStatusEvaluator(&asked.Flux)
	if err != nil {
		return nil, err
	}
	var all []verdict
	for _, object := range asked.Objects {
		word, message, err := argo(asked.Lua, object)
		if err != nil {
			return nil, fmt.Errorf("argo: %w", err)
		}
		// An expression about a status that is not there yet is an error, which Flux waits through.
		flux := status.UnknownStatus
		if result, err := evaluator.Evaluate(context.Background(), object); err == nil {
			flux = result.Status
		}
		plain, err := status.Compute(object)
		if err != nil {
			return nil, fmt.Errorf("kstatus: %w", err)
		}
		all = append(all, verdict{word, message, flux.String(), plain.Status.String()})
	}
	return all, nil
}

// answer reads what is asked, and writes what was found.
func answer[A, B any](find func(A) (B, error)) error {
	var asked A
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		return err
	}
	found, err := find(asked)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

func run() error {
	if len(os.Args) == 2 {
		switch os.Args[1] {
		case "diff":
			return answer(differences)
		case "health":
			return answer(verdicts)
		}
	}
	return fmt.Errorf("usage: gitops diff|health < what.json")
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gitops:", err)
		os.Exit(1)
	}
}
