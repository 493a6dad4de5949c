// The parts of a Kubernetes control plane in one program, and what stands in for kubelets:
// `control-plane kube-apiserver FLAG...`, and so on; `control-plane nodes` with KUBECONFIG.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

func main() {
	parts := map[string]func() *cobra.Command{
		"kube-apiserver":          apiserver.NewAPIServerCommand,
		"kube-controller-manager": controllers.NewControllerManagerCommand,
		"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
		"nodes":                   func() *cobra.Command { return &cobra.Command{RunE: nodes} },
	}
	if len(os.Args) < 2 || parts[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "which part: kube-apiserver, kube-controller-manager, kube-scheduler or nodes")
		os.Exit(2)
	}
	part := parts[os.Args[1]]()
	os.Args = os.Args[1:]
	os.Exit(cli.Run(part))
}

// nodes says of every node that it is ready, and of every pod on one that it runs; those of a Job have ended well. Whoever is
// to be deleted is, at once. Nothing runs.
func nodes(*cobra.Command, []string) error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	for beat := 0; ; beat++ {
		if beat%50 == 0 {
			told(tellNodes(client))
		}
		told(tellPods(client, beat))
		time.Sleep(200 * time.Millisecond)
	}
}

// What fails now is tried again in a moment: somebody else may have changed the same object.
func told(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func tellNodes(client kubernetes.Interface) error {
	ctx := context.Background()
	all, err := client.CoreV1().Nodes().List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	for _, node := range all.Items {
		node.Status.Conditions = []core.NodeCondition{{
			Type: core.NodeReady, Status: core.ConditionTrue, Reason: "Said", LastHeartbeatTime: meta.Now(),
		}}
		if _, err := client.CoreV1().Nodes().UpdateStatus(ctx, &node, meta.UpdateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func tellPods(client kubernetes.Interface, beat int) error {
	ctx := context.Background()
	all, err := client.CoreV1().Pods("").List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	for number, pod := range all.Items {
		if pod.Spec.NodeName == "" {
			continue
		}
		pods := client.CoreV1().Pods(pod.Namespace)
		if pod.DeletionTimestamp != nil {
			if err := pods.Delete(ctx, pod.Name, *meta.NewDeleteOptions(0)); err != nil {
				return err
			}
		} else if pod.Status.Phase == core.PodPending {
			run(&pod, fmt.Sprintf("10.0.%d.%d", beat/250%250, number+1))
			if _, err := pods.UpdateStatus(ctx, &pod, meta.UpdateOptions{}); err != nil {
				return err
			}
		}
	}
	return nil
}

func run(pod *core.Pod, address string) {
	owner := meta.GetControllerOf(pod)
	state, ready := core.ContainerState{Running: &core.ContainerStateRunning{StartedAt: meta.Now()}}, true
	pod.Status.Phase = core.PodRunning
	if owner != nil && owner.Kind == "Job" {
		state, ready = core.ContainerState{Terminated: &core.ContainerStateTerminated{Reason: "Completed"}}, false
		pod.Status.Phase = core.PodSucceeded
	}
	pod.Status.PodIP, pod.Status.PodIPs = address, []core.PodIP{{IP: address}}
	for _, container := range pod.Spec.Containers {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses,
			core.ContainerStatus{Name: container.Name, Image: container.Image, State: state, Ready: ready})
	}
	if ready {
		for _, kind := range []core.PodConditionType{core.PodInitialized, core.ContainersReady, core.PodReady} {
			pod.Status.Conditions = append(pod.Status.Conditions,
				core.PodCondition{Type: kind, Status: core.ConditionTrue, LastTransitionTime: meta.Now()})
		}
	}
}
