import { createRootRoute, createRoute, createRouter } from "@tanstack/react-router";
import { alertSearchOf, settingsSearchOf, snapshotSearchOf, taskSearchOf } from "./addresses";
import { claimSearchOf } from "./claims";
import { Frame } from "./frame";
import { hardwareSearchOf } from "./hardware";
import { word } from "./i18n";
import { searchOf } from "./logs";
import { AlertsPage } from "./pages/alerts";
import { ContainerPage } from "./pages/container";
import { ContainersPage } from "./pages/containers";
import { EventsPage } from "./pages/events";
import { HardwarePage } from "./pages/hardware";
import { HomePage } from "./pages/home";
import { KubernetesPage } from "./pages/kubernetes";
import { KubernetesClusterPage } from "./pages/kubernetes-cluster";
import { LogsPage } from "./pages/logs";
import { NodePage } from "./pages/node";
import { SettingsPage } from "./pages/settings";
import { SnapshotsPage } from "./pages/snapshots";
import { SpacePage } from "./pages/space";
import { TasksPage } from "./pages/tasks";
import { VolumePage } from "./pages/volume";
import { VolumesPage } from "./pages/volumes";

const root = createRootRoute({ component: Frame, notFoundComponent: () => <p>{word("notFound")}</p> });
const at = <Path extends string>(path: Path, component: () => React.JSX.Element) =>
  createRoute({ getParentRoute: () => root, path, component });

export const volumeRoute = createRoute({
  getParentRoute: () => root,
  path: "/volumes/$name",
  component: VolumePage,
});

export const containerRoute = createRoute({
  getParentRoute: () => root,
  path: "/containers/$name",
  component: ContainerPage,
});

const hardwareRoute = createRoute({
  getParentRoute: () => root,
  path: "/hardware",
  component: HardwarePage,
  validateSearch: hardwareSearchOf,
});

export const nodeRoute = createRoute({
  getParentRoute: () => root,
  path: "/hardware/$name",
  component: NodePage,
});

export const kubernetesRoute = createRoute({
  getParentRoute: () => root,
  path: "/kubernetes/$name",
  component: KubernetesClusterPage,
  validateSearch: claimSearchOf,
});

const logsRoute = createRoute({
  getParentRoute: () => root,
  path: "/logs",
  component: LogsPage,
  validateSearch: searchOf,
});

export const snapshotsRoute = createRoute({
  getParentRoute: () => root,
  path: "/snapshots",
  component: SnapshotsPage,
  validateSearch: snapshotSearchOf,
});

export const tasksRoute = createRoute({
  getParentRoute: () => root,
  path: "/tasks",
  component: TasksPage,
  validateSearch: taskSearchOf,
});

export const alertsRoute = createRoute({
  getParentRoute: () => root,
  path: "/alerts",
  component: AlertsPage,
  validateSearch: alertSearchOf,
});

export const settingsRoute = createRoute({
  getParentRoute: () => root,
  path: "/settings",
  component: SettingsPage,
  validateSearch: settingsSearchOf,
});

const tree = root.addChildren([
  at("/", HomePage),
  at("/containers", ContainersPage),
  at("/volumes", VolumesPage),
  volumeRoute,
  containerRoute,
  nodeRoute,
  at("/kubernetes", KubernetesPage),
  kubernetesRoute,
  snapshotsRoute,
  hardwareRoute,
  at("/space", SpacePage),
  tasksRoute,
  alertsRoute,
  at("/events", EventsPage),
  logsRoute,
  settingsRoute,
]);

export const router = createRouter({ routeTree: tree, defaultPreload: false });

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
