import {
  ActionIcon,
  AppShell,
  Burger,
  Button,
  Center,
  Group,
  Loader,
  Menu,
  NavLink,
  Text,
  Tooltip,
  useComputedColorScheme,
  useMantineColorScheme,
  VisuallyHidden,
} from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { Link, Outlet, useLocation } from "@tanstack/react-router";
import { useEffect } from "react";
import { counted } from "./alerts";
import { call } from "./api";
import { setLanguage, useLanguage, valueWord, type Word, word } from "./i18n";
import { useConnected, useLive } from "./live";
import { LoginPage } from "./pages/login";
import { complain, reason, State } from "./parts";
import { client, useAlerts, useCluster, useOpenTasks, useResiliency, useSession } from "./queries";
import { Search } from "./search";
import type { Session } from "./types";

const PLACES: { to: string; title: Word }[] = [
  { to: "/", title: "home" },
  { to: "/containers", title: "containers" },
  { to: "/volumes", title: "volumes" },
  { to: "/snapshots", title: "snapshots" },
  { to: "/kubernetes", title: "kubernetes" },
  { to: "/hardware", title: "hardware" },
  { to: "/space", title: "space" },
  { to: "/tasks", title: "tasks" },
  { to: "/alerts", title: "alerts" },
  { to: "/events", title: "events" },
  { to: "/logs", title: "logs" },
  { to: "/settings", title: "settings" },
];

/** Asks who one is first: nothing else is shown to nobody. */
export function Frame() {
  useLanguage();
  const session = useSession();
  useEffect(() => {
    // The node has said that the session is none any more.
    const ended = () =>
      client.setQueryData<Session>(["session"], { who: null, user: null, scope: null, expires_ms: null });
    window.addEventListener("azekura-logged-out", ended);
    return () => window.removeEventListener("azekura-logged-out", ended);
  }, []);
  if (session.data?.scope) {
    return <Inside session={session.data} />;
  }
  if (session.data) {
    return <LoginPage />;
  }
  return (
    <Center h="100vh">
      {session.error ? (
        <Text role="alert">{reason(session.error)}</Text>
      ) : (
        <Loader aria-label={word("loading")} />
      )}
    </Center>
  );
}

function Health() {
  const verdict = useResiliency().data?.verdict;
  if (!verdict) {
    return null;
  }
  const names: Record<string, Word> = { ok: "healthy", degraded: "degraded", critical: "critical" };
  return (
    <Link
      to="/"
      aria-label={`${word("resiliency")}: ${word(names[verdict] ?? "degraded")}`}
      style={{ textDecoration: "none" }}
    >
      <State state={verdict}>{word(names[verdict] ?? "degraded")}</State>
    </Link>
  );
}

/** How many tasks are open, when there are any. */
function OpenTasks() {
  const open = useOpenTasks().data?.open ?? 0;
  if (open === 0) {
    return null;
  }
  return (
    <Link to="/tasks" style={{ textDecoration: "none" }}>
      <State state="pending">{word("tasksCount", open)}</State>
    </Link>
  );
}

/** Open alerts by severity; nothing while there is none. */
function OpenAlerts() {
  const open = useAlerts("open").data?.open;
  const counts = open ? counted(open) : [];
  if (counts.length === 0) {
    return null;
  }
  return (
    <Link to="/alerts" style={{ textDecoration: "none" }}>
      <Group gap={4} wrap="nowrap">
        <VisuallyHidden>{`${word("alerts")}: `}</VisuallyHidden>
        {counts.map(([severity, count]) => (
          <State key={severity} state={severity}>
            {count} {valueWord("severity", severity)}
          </State>
        ))}
      </Group>
    </Link>
  );
}

function Account({ session }: { session: Session }) {
  const language = useLanguage();
  const { setColorScheme } = useMantineColorScheme();
  const scheme = useComputedColorScheme("light");
  const connected = useConnected();
  const leave = async () => {
    try {
      await call("DELETE", "/session");
      // The page begins anew: nothing of what was read stays, and nothing is asked again without a session.
      window.location.assign("/");
    } catch (error) {
      complain(error);
    }
  };
  return (
    <Group gap="xs" wrap="nowrap">
      <Tooltip label={word(connected ? "live" : "notLive")}>
        <Text
          size="sm"
          role="status"
          aria-label={word(connected ? "live" : "notLive")}
          c={connected ? "green.8" : "orange.9"}
        >
          {connected ? "●" : "○"}
        </Text>
      </Tooltip>
      <Button size="xs" variant="default" onClick={() => setLanguage(language === "ja" ? "en" : "ja")}>
        {word("language")}
      </Button>
      <ActionIcon
        variant="default"
        aria-label={word("theme")}
        onClick={() => setColorScheme(scheme === "dark" ? "light" : "dark")}
      >
        {scheme === "dark" ? "☀" : "☾"}
      </ActionIcon>
      {session.user ? (
        <Menu>
          <Menu.Target>
            <Button size="xs" variant="default">
              {session.user}
            </Button>
          </Menu.Target>
          <Menu.Dropdown>
            <Menu.Label>{session.scope && valueWord("scope", session.scope)}</Menu.Label>
            <Menu.Item onClick={() => void leave()}>{word("logOut")}</Menu.Item>
          </Menu.Dropdown>
        </Menu>
      ) : (
        <Text size="sm">{session.who}</Text>
      )}
    </Group>
  );
}

function Inside({ session }: { session: Session }) {
  useLive();
  const language = useLanguage();
  const [open, { toggle, close }] = useDisclosure(false);
  const cluster = useCluster().data;
  const here = useLocation().pathname;
  useEffect(() => {
    document.title = cluster ? `${cluster.name} – Azekura` : "Azekura";
  }, [cluster]);
  return (
    <AppShell
      header={{ height: 52 }}
      navbar={{ width: 200, breakpoint: "sm", collapsed: { mobile: !open } }}
      padding="md"
    >
      <AppShell.Header>
        <Group h="100%" px="md" justify="space-between" wrap="nowrap">
          <Group gap="sm" wrap="nowrap">
            <Burger opened={open} onClick={toggle} hiddenFrom="sm" size="sm" aria-label={word("menu")} />
            <img src="/icon.svg" alt="" width={26} height={26} />
            <Text fw={700}>{cluster?.name ?? "Azekura"}</Text>
            <Health />
            <OpenTasks />
            <OpenAlerts />
          </Group>
          <Search />
          <Account session={session} />
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" aria-label={word("pages")}>
        {PLACES.map(({ to, title }) => (
          <NavLink
            key={to}
            component={Link}
            to={to}
            label={word(title)}
            active={to === "/" ? here === "/" : here.startsWith(to)}
            color="cyan"
            onClick={close}
            c="var(--mantine-color-text)"
          />
        ))}
      </AppShell.Navbar>
      <AppShell.Main>
        {/* Another language draws the whole page anew. */}
        <Outlet key={language} />
      </AppShell.Main>
    </AppShell>
  );
}
