"""Campaigns: many cases, examined by workers that may crash, with results that depend on the seed alone."""

from graphopt.fuzz.campaign.report import CampaignReport, ReportedFinding
from graphopt.fuzz.campaign.runner import Campaign
from graphopt.fuzz.campaign.settings import PROFILES, Settings, profile_settings
from graphopt.fuzz.campaign.watcher import Watcher

__all__ = [
    "PROFILES",
    "Campaign",
    "CampaignReport",
    "ReportedFinding",
    "Settings",
    "Watcher",
    "profile_settings",
]
